// The goad client: asks the edge scheduler about each query, and always comes back with an answer.
//
//   auto client = goad::Client::Connect({.address = "edge.example:7443"});
//   goad::Query query;
//   query.prompt = "...";  query.uncertainty = 0.93;  query.local_delay = absl::Milliseconds(800);
//   goad::Answer answer = client->Ask(query, [&] { return my_local_model(query.prompt); });
//
// The prompt leaves the device only after goad has decided OFFLOAD. When goad is unreachable, silent past the query's
// budget, or fails before a complete answer, the local fallback answers: Ask never hangs and never fails because goad
// died. Nothing that is passed in ends the process or costs another query: what is wrong with it fails that call alone,
// in words. Durations are absl's; numbers have their unit in the name.
#ifndef GOAD_CLIENT_H_
#define GOAD_CLIENT_H_

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "goad/query.h"

namespace goad {

// Thread-safe. Destroying it answers what is live with why_local CANCELLED, and ends an Ask that is waiting on another
// thread.
class Client {
 public:
  // Never null. Returns at once (it reads the certificate files); the connection is made, and made again, in the
  // background.
  static std::unique_ptr<Client> Connect(ClientOptions options);
  ~Client();

  // INVALID_ARGUMENT or NOT_FOUND with the field or file and what is wrong with it when the options can never work:
  // then every query is answered locally with INVALID_OPTIONS.
  absl::Status status() const;

  // Blocks until there is an answer. `local` runs on the calling thread when the answer is to be local; without one the
  // answer has source kNone. `on_text` sees edge text as it streams in, on the client's own thread; when an edge answer
  // breaks off after some text, the returned answer is the local one and replaces it. Not to be called from a callback.
  // Queries beyond goad's queries_per_session wait here: until the decision budget is spent, or, with a deadline, as
  // long as a local answer can still make it, or, with must_offload, until deadline or answer_budget. At most 256 wait.
  Answer Ask(Query query, std::function<std::string()> local, std::function<void(const std::string&)> on_text = {});

  // Returns the query's id at once; see AskCallbacks. An empty id: the client is being destroyed, and no callback
  // comes.
  std::string AskAsync(Query query, AskCallbacks callbacks);
  void Cancel(const std::string& query_id);

  // The latest measurements; kept and sent again after a reconnect. Call it as often as you like: the latest of each
  // site is sent, at most ten times a second, the last one always. At most 64 sites within a minute; age at
  // most 1 h. Sites with measured uplinks need none: goad then goes by what it saw of this client's uploads, or of
  // others'.
  void ReportLinks(std::vector<Link> links);
  // How long a local answer really took.
  void ReportLocal(const std::string& query_id, absl::Duration delay);
  // How good the answer was that the user got, the device's or the edge's: 0 (wrong) .. 1 (right); once, within 60 s of
  // on_done. Where goad promises an accuracy it is told by these whether that is kept: rate all answers, or some by
  // chance, not those that are bad. Lost while there is no stream, or with the client when it is destroyed at once. A
  // wrong number is told to on_problem as REPORT_REFUSED.
  void ReportQuality(const std::string& query_id, double quality);

  bool connected() const;           // greeted by goad on the present stream
  std::vector<Site> sites() const;  // as goad last told; empty before the first greeting
  std::optional<Limits> limits() const;

 private:
  struct Impl;
  explicit Client(std::shared_ptr<Impl> impl);
  const std::shared_ptr<Impl> impl_;
};

}  // namespace goad

#endif  // GOAD_CLIENT_H_
