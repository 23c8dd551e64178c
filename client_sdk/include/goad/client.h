// The goad client: asks the edge scheduler about each query, and always comes back with an answer.
//
//   auto client = goad::Client::Connect({.address = "edge.example:7443"});
//   goad::Query query;
//   query.prompt = "...";  query.uncertainty = 0.93;  query.local_delay = absl::Milliseconds(800);
//   goad::Answer answer = client->Ask(query, [&] { return my_local_model(query.prompt); });
//
// The prompt leaves the device only after goad has decided OFFLOAD. When goad is unreachable, silent past the query's
// budget, or fails before a complete answer, the local fallback answers: Ask never hangs and never fails because goad died.
#ifndef GOAD_CLIENT_H_
#define GOAD_CLIENT_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "goad/uncertainty.h"

namespace goad {

struct Query {
  std::string id;                                 // 1..64 bytes, unique; empty = a random UUID
  std::optional<double> uncertainty;              // 0..1; or
  std::vector<TokenProbability> first_token;      // from which goad computes it
  bool must_offload = false;                      // the device has no local model
  std::string prompt;                             // text, or
  std::vector<std::pair<std::string, std::string>> chat;  // (role, content); not empty = a chat prompt
  int prompt_tokens = 0;
  int max_output_tokens = 0;                      // 0 = the server's limit
  std::optional<int> expected_output_tokens;
  absl::Duration local_delay;                     // how long a local answer would take from now
  absl::Duration deadline = absl::InfiniteDuration();  // from Ask to the last token
  std::optional<double> edge_work_flop;           // for sites with the equal_share model
  double temperature = 0;
  std::vector<std::string> stop;                  // at most 4
  std::optional<int64_t> seed;
};

// One radio link, device to site. Set exactly one of the measurements.
struct Link {
  std::string site;
  std::optional<double> gain_db, rsrp_dbm, uplink_snr_db, uplink_bps;
  absl::Duration age;                             // how long ago it was measured
};

// A site that goad schedules, as it introduced itself.
struct Site {
  std::string name;
  bool measured = false;                          // report uplink_bps; else gain_db, rsrp_dbm or uplink_snr_db
  bool chat = false;                              // takes chat prompts
};

struct Decision {
  bool offload = false;
  std::string reason;                             // UNCERTAIN, DELAY_GAIN, NO_GAIN, NO_LINK, ... (goad.v1.Reason)
  std::string site;
  uint64_t epoch = 0;
  absl::Duration predicted_upload, predicted_compute, upload_within;
};

struct Answer {
  enum class Source { kEdge, kLocal, kNone };     // kNone: cancelled, or local without a fallback
  Source source = Source::kNone;
  std::string text;                               // complete
  std::string why_local;                          // a reason of goad, or UNREACHABLE, NO_DECISION, TIMEOUT, STREAM_LOST,
                                                  // INCOMPLETE, CANCELLED, or the code of a failure; empty for kEdge
  std::string detail;                             // for people
  bool decided = false;
  Decision decision;
  // Of an edge answer, as goad measured it.
  std::string finish_reason, backend;
  int prompt_tokens = 0, output_tokens = 0;
  absl::Duration ttft, compute;
  // As this client measured it.
  absl::Duration delay;                           // Ask to the last token, or to the decision to answer locally
  absl::Duration first_token_after;               // Ask to the first token; 0 when none came
};

struct ClientOptions {
  std::string address = "127.0.0.1:7443";         // any gRPC target
  std::string device_name, local_model;           // at most 128 bytes each
  std::optional<double> tx_power_dbm;             // default 23 dBm
  // Nothing heard for this long after Ask: answer locally. At least twice the server's epoch period is sensible.
  absl::Duration decision_budget = absl::Seconds(1);
  // Longest wait for a whole answer after OFFLOAD, for queries without a deadline.
  absl::Duration answer_budget = absl::Seconds(60);
  // Reconnecting: the wait doubles from the first to the second value, jittered by half.
  absl::Duration backoff_first = absl::Milliseconds(100), backoff_most = absl::Seconds(10);
  int asks_per_query = 3;                         // a query is asked again on a new stream while no token was seen,
                                                  // all queries together 10 times and once more per 10 edge answers
  // TLS when `root_ca_file` is set; mTLS with certificate and key (PEM files).
  std::string root_ca_file, certificate_file, key_file;
  std::string token;                              // sent as "authorization: Bearer TOKEN"; only over TLS does it stay secret
};

// What a caller may hear about one query, in this order; any may be empty. Called on the client's own thread, which must
// not be blocked; calling back into the client is allowed.
struct AskCallbacks {
  std::function<void(const Decision&)> on_decision;
  // Set to send the prompt later (an emulated radio): call `send` when the upload is done. Otherwise it goes at once.
  std::function<void(const Decision&, std::function<void()> send)> on_grant;
  std::function<void(const std::string& text)> on_text;
  // Exactly once. source is kEdge, or kNone with why_local set: then the caller answers locally.
  std::function<void(const Answer&)> on_done;
};

// Thread-safe. Destroying it answers what is live with why_local CANCELLED.
class Client {
 public:
  // Returns at once; the connection is made, and made again, in the background.
  static std::unique_ptr<Client> Connect(ClientOptions options);
  ~Client();

  // Blocks until there is an answer. `local` runs on the calling thread when the answer is to be local; without one the
  // answer has source kNone. `on_text` sees edge text as it streams in; when an edge answer breaks off after some text,
  // the returned answer is the local one and replaces it.
  Answer Ask(Query query, std::function<std::string()> local, std::function<void(const std::string&)> on_text = {});

  // Returns the query's id at once; see AskCallbacks.
  std::string AskAsync(Query query, AskCallbacks callbacks);
  void Cancel(const std::string& query_id);

  // The latest measurements; kept and sent again after a reconnect.
  void ReportLinks(std::vector<Link> links);
  // How long a local answer really took.
  void ReportLocal(const std::string& query_id, absl::Duration delay);

  bool connected() const;           // greeted by goad on the present stream
  std::vector<Site> sites() const;  // as of the last greeting; empty before the first

 private:
  struct Impl;
  explicit Client(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace goad

#endif  // GOAD_CLIENT_H_
