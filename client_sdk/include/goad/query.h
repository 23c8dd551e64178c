// What goes into a goad client and what comes out of it: plain values. goad/client.h shows the use.
#ifndef GOAD_QUERY_H_
#define GOAD_QUERY_H_

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "goad/uncertainty.h"

namespace goad {

struct Query {
  std::string id;                                         // 1..64 bytes of UTF-8, unique; empty = a random UUID
  std::optional<double> uncertainty;                      // 0..1; ClientOptions::uncertainty says what it is; or
  std::vector<TokenProbability> first_token;              // the candidates of kMargin, kMaxProbability: 2..100
  bool must_offload = false;                              // the device has no local model
  std::string prompt;                                     // text, UTF-8, at most Limits::prompt_bytes; or
  std::vector<std::pair<std::string, std::string>> chat;  // (role, content); not empty = a chat prompt. Roles are
                                                          // system, developer, user and assistant; or
  std::vector<std::string> messages_json;  // a chat prompt of whole OpenAI messages, a JSON object each: roles (tool,
                                           // too), names, tool calls, parts of text and image_url with a data: URL
  int prompt_tokens = 0;                   // 0..1000000
  int max_output_tokens = 0;               // 0 = the server's limit
  std::optional<int> expected_output_tokens;
  std::string kind;            // one of the daemon's kinds, so that it can expect a length; empty = none
  absl::Duration local_delay;  // how long a local answer would take from now; at most 1 h
  absl::Duration deadline = absl::InfiniteDuration();  // from Ask to the last token; at most 1 h, or infinite
  std::optional<double> edge_work_flop;                // for sites with the equal_share model
  double temperature = 0;                              // 0..2
  std::vector<std::string> stop;                       // at most 4, each 1..64 bytes of UTF-8
  std::optional<int64_t> seed;
  // The rest of an OpenAI request as a JSON object, at most 64 KiB and 16 levels: top_p, response_format, tools,
  // tool_choice, ... goad's operator says what of it is passed on; any other field fails the query by name.
  std::string options_json;
  bool reasoning = false;  // what the model thinks is wanted, too
  int top_logprobs = 0;    // 0..10 candidates for each token, in AnswerPiece::logprobs; 0 = none
};

struct ToolCall {
  std::string id, name;
  std::string arguments;  // JSON as the model wrote it
};
struct TokenLogprob {
  std::string token;              // its bytes; a part of a code point is no UTF-8
  double logprob = 0;             // natural logarithm, -9999..0
  std::vector<TokenLogprob> top;  // the candidates, one level
};
// A piece of an answer as it streams in; most of it is empty.
struct AnswerPiece {
  std::string text;       // whole code points, as are the next two
  std::string reasoning;  // with Query::reasoning
  struct ToolCallPiece {
    int index = 0;  // of the call that this goes on with, from 0
    ToolCall call;  // what is to be appended
  };
  std::vector<ToolCallPiece> tool_calls;  // with tools in Query::options_json
  size_t refusal_bytes = 0;               // of `text`, the last so many are the model's refusal
  std::vector<TokenLogprob> logprobs;     // with Query::top_logprobs, where the server gives them
  int tokens = 0;                         // in this piece, where the server says
};

// One radio link, device to site. Set exactly one of the measurements.
struct Link {
  std::string site;
  std::optional<double> gain_db, rsrp_dbm, uplink_snr_db, uplink_bps;
  absl::Duration age;  // how long ago it was measured
};

// A site that goad schedules, as it introduced itself.
struct Site {
  std::string name;
  bool measured = false;  // report uplink_bps; else gain_db, rsrp_dbm or uplink_snr_db
  bool chat = false;      // takes chat prompts
  // What some server of it can; a query needs one that can all that it needs. Both false from a goad that does not
  // tell.
  bool tools = false, images = false;
  int context_tokens = 0;  // of prompt and answer, the longest; 0 = not known
  // Not empty: a site of another goad, at this address, of which nothing else is known. Report links to it as to the
  // others: when all that a device reports are another goad's, it is sent there.
  std::string neighbour;
};

// What goad takes of one client, as it said in its last greeting.
struct Limits {
  int queries_per_session = 0;  // more at once wait in the client; 0 = not said
  uint64_t prompt_bytes = 0;
  int max_output_tokens = 0;
  absl::Duration link_max_age;  // an older measurement counts as none
  absl::Duration grant;         // time to upload a prompt after OFFLOAD
};

struct Decision {
  bool offload = false;
  std::string reason;  // UNCERTAIN, DELAY_GAIN, NO_GAIN, NO_LINK, ... (goad.v1.Reason), or REASON_n for
                       // one that this client does not know
  std::string site;
  uint64_t epoch = 0;
  absl::Duration predicted_upload, predicted_compute, upload_within;
  absl::Duration queue;        // what goad took to decide: the rest of the time since the query left is the round trip
  absl::Duration retry_after;  // above 0: goad wants no query of this client before; at most 5 min
  std::string neighbour;       // with NO_LINK: the goad whose sites the links are of, where one is known
};

struct Answer {
  // kNone: cancelled, local without a fallback, or the caller's own mistake (CALLBACK_FAILED, ASK_IN_CALLBACK).
  enum class Source { kEdge, kLocal, kNone };
  Source source = Source::kNone;
  std::string text;  // complete; empty for kNone
  // Of an edge answer: what it thought, and the tools that it calls; there may be no text then.
  std::string reasoning;
  std::vector<ToolCall> tool_calls;
  bool refusal = false;    // `text` is, or ends in, the model's refusal
  std::string query_id;    // also of a blocking Ask that came without one
  double uncertainty = 0;  // that goad was asked with; 1 for must_offload without one
  // Why it is not the edge's; empty for kEdge, and for kEdge only. A reason of goad (NO_GAIN, OVERLOAD, ..., REASON_n),
  // the code of a failure, or one of the client's own:
  //   UNREACHABLE       goad cannot be reached: at once while that is known, else when the budget is spent
  //   DRAINING          goad said goodbye: at once
  //   NO_DECISION, TIMEOUT            no decision, no whole answer within the budget
  //   STREAM_LOST, INCOMPLETE         the answer broke off, or has a gap
  //   SESSION_FULL, QUEUE_FULL        too many of this client's queries: waited in vain, or no room to wait
  //   INVALID_QUERY, INVALID_OPTIONS, ID_REUSED  `detail` says what is wrong; nothing was sent
  //   CANCELLED         by Cancel or by the client's end; no local model is run for it
  //   CANCELLED_BY_GOAD
  //   CALLBACK_FAILED   one of the caller's functions threw; `detail` has its words
  //   ASK_IN_CALLBACK   Ask was called on the client's own thread
  std::string why_local;
  std::string detail;  // for people; at most 512 bytes
  std::string goad;    // address of the goad that was asked last; empty = none was
  bool decided = false;
  Decision decision;
  absl::Duration retry_after;  // above 0: until then queries are answered locally at once
  // Of an edge answer, as goad measured it.
  std::string finish_reason, backend;  // "other": more than 32 bytes, or not printable; backend: at most 128 bytes
  int prompt_tokens = 0, output_tokens = 0;
  absl::Duration ttft, compute;
  // As this client measured it.
  absl::Duration delay;              // Ask to the last token, or to the decision to answer locally
  absl::Duration first_token_after;  // Ask to the first token; 0 when none came
  absl::Duration waited;             // of it, before goad was asked: for other queries, or for the connection
};

// Something that an operator or developer may want to know and that no single answer tells.
struct Problem {
  // UNREACHABLE (a connection attempt failed, TLS included), STREAM_LOST, GOODBYE, PROTOCOL_ERROR (goad refused a
  // frame, such as a report of an unknown site), LINK_REFUSED (a report that makes no sense was not sent),
  // REPORT_REFUSED (ReportLocal, ReportQuality), INVALID_OPTIONS, CALLBACK_FAILED.
  std::string code;
  std::string detail;  // for people; at most 512 bytes
  int untold = 0;      // problems since the last one that were too many to be told
};

struct ClientOptions {
  std::string address = "127.0.0.1:7443";  // any gRPC target; a port is 1..65535
  // At most 15 more, in order of preference: who is gone, refuses, is silent or drains is left for the next one, and
  // gone back to when it has been well for `return_after` to twice that, at most 1 h. What runs is finished where it
  // is. goad may name another one, and which is best for where the device is; that is gone to when it is one of these,
  // or TLS proves who it is, or there is no token to be shown to it.
  std::vector<std::string> other_addresses;
  absl::Duration return_after = absl::Seconds(10);
  std::string device_name, local_model;  // at most 128 bytes of UTF-8 each
  UncertaintySource uncertainty;         // what all of this client's uncertainties are; goad is told
  std::optional<double> tx_power_dbm;    // -60..60; default 23 dBm
  // Nothing heard for this long after Ask: answer locally. At least twice the server's epoch period is sensible. At
  // most 1 h.
  absl::Duration decision_budget = absl::Seconds(1);
  // Longest wait for a whole answer after OFFLOAD, for queries without a deadline. At most 24 h.
  absl::Duration answer_budget = absl::Seconds(60);
  // Longest silence between two pieces of an answer, at most 24 h, or infinite: then the caller answers locally. What a
  // model thinks is silence unless Query::reasoning asks for it.
  absl::Duration between_tokens_budget = absl::InfiniteDuration();
  // Reconnecting: the wait doubles from the first to the second value, jittered by half. 1 ms..1 h.
  absl::Duration backoff_first = absl::Milliseconds(100), backoff_most = absl::Seconds(10);
  int asks_per_query = 3;  // a query is asked again on a new stream while no token was seen,
                           // all queries together 10 times and once more per 10 edge answers
  // TLS when `root_ca_file` is set; mTLS with certificate and key too (PEM files of at most 1 MiB, read in Connect). A
  // file that cannot be read or holds no PEM is an error (Client::status), never another authority instead.
  std::string root_ca_file, certificate_file, key_file;
  // Sent as "authorization: Bearer TOKEN"; only over TLS does it stay secret. Printable ASCII without blanks, at most
  // 4096 bytes: the newline at the end of a file is no part of a token.
  std::string token;
  // Hears of problems, on the client's own thread, which must not be blocked; the same one at most once a minute, and
  // at most ten a second. May be empty. Must not outlive what it captures: it may run until the client is destroyed.
  std::function<void(const Problem&)> on_problem;
};

// What a caller may hear about one query, in this order; any may be empty. Called on the client's own thread, one at a
// time; it must not be blocked. AskAsync, Cancel and the Report functions may be called from them, and the client may
// be destroyed; Ask may not (it returns ASK_IN_CALLBACK at once). What they throw is caught and ends that query with
// CALLBACK_FAILED.
struct AskCallbacks {
  std::function<void(const Decision&)> on_decision;
  // Set to send the prompt later (an emulated radio): call `send` when the upload is done, on any thread, even after
  // the client's end. Otherwise it goes at once.
  std::function<void(const Decision&, std::function<void()> send)> on_grant;
  std::function<void(const std::string& text)> on_text;
  std::function<void(const AnswerPiece&)> on_piece;  // the same, with what is no text
  // Exactly once. source is kEdge, or kNone with why_local set: then the caller answers locally.
  std::function<void(const Answer&)> on_done;
};

}  // namespace goad

#endif  // GOAD_QUERY_H_
