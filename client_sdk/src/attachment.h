// Which goads a client is attached to: their addresses in order of preference, the stream that new queries go to, those
// on which older queries are finished, and one by which a preferred goad shows that it is well again. Pure.
#ifndef GOAD_CLIENT_SDK_SRC_ATTACHMENT_H_
#define GOAD_CLIENT_SDK_SRC_ATTACHMENT_H_

#include <functional>
#include <list>
#include <optional>
#include <random>
#include <string>
#include <vector>

#include "client_sdk/src/instant.h"
#include "client_sdk/src/reconnect.h"
#include "goad/query.h"
#include "goad/v1/offload.pb.h"

namespace goad::internal {

// Thread-compatible. With one address it is that address's Reconnect. With several: a goad that is lost, refuses, is
// silent or says Goodbye for a while is left for the next one, within half a second by chance; when a preferred one has
// greeted and stayed for return_after to twice that, it is gone back to. Whoever a stream was left for, what runs on it
// is finished there.
class Attachment {
 public:
  enum class State { kGreeting, kReady, kLeaving };  // kLeaving: nothing new
  struct Stream {
    uint64_t generation;  // from 1
    std::string address;
    State state = State::kGreeting;
    Instant greet_by;                               // kGreeting
    Instant heard;                                  // the last frame
    Instant unanswered = absl::InfiniteDuration();  // since when a query has been, with no frame after it
    Instant well_at;                                // of the one on trial: when it is taken
    bool come_again = false;                        // kLeaving: another one to the same goad may be opened already
    v1::Welcome welcome;                            // with the sites of the last Sites
  };

  explicit Attachment(const ClientOptions& options);
  void Never();  // no stream any more, and none is opened

  const Stream* Find(uint64_t generation) const;
  std::vector<uint64_t> All() const;
  const Stream* current() const { return Find(current_); }
  const Stream* ready() const;  // current(), when it was greeted
  // Whether a query that waits may soon be asked: a stream is being greeted or, of several goads, one will be within a
  // second that has not failed since the last greeting.
  bool Hope(Instant now) const;
  // There is another stream than this one for new queries, or one to another goad soon. REQUIRES: Find(generation).
  bool Elsewhere(uint64_t generation, Instant now) const;

  // The goad at this address was lost, did not answer or said Goodbye, and it is not time yet to try it again.
  bool Away(const std::string& address, Instant now) const;

  void Heard(uint64_t generation, Instant now);
  // A query that was sent then got no decision within its budget. True: this goad has been silent for 3 s, and there is
  // another one; it is to be Lost. (One that is only late is not left: its load would go to a neighbour.)
  bool Silent(uint64_t generation, Instant sent, Instant now);
  // False: it is no stream that waits for a greeting.
  bool Greeted(uint64_t generation, const v1::Welcome& welcome, Instant now, std::mt19937_64& random);
  // False: it has no sites to tell of any more.
  bool SitesChanged(uint64_t generation, const v1::Sites& sites);
  // False: it was leaving already.
  bool Goodbye(uint64_t generation, const v1::Goodbye& goodbye, Instant now, std::mt19937_64& random);
  // What it was when it ended; nothing for one that is not known. `retry_after`: goad wants no stream of this client
  // before.
  std::optional<State> Lost(uint64_t generation, absl::Duration retry_after, Instant now, std::mt19937_64& random);

  struct Step {
    uint64_t generation;
    bool open = false;  // else: close
    std::string address;
  };
  // What there is to do by the clock. `busy`: queries are being finished on it.
  std::vector<Step> Advance(Instant now, const std::function<bool(uint64_t)>& busy);
  std::vector<uint64_t> Ungreeted(Instant now) const;  // their time is over: each is Lost
  Instant NextWake(const std::function<bool(uint64_t)>& busy) const;
  Instant opens_at() const;  // when the next stream is opened, if current() is none

 private:
  struct Place {
    std::string address;
    Reconnect reconnect;
    bool failed = false;  // not greeted since any other was
    bool away = false;    // left or not reached, and not greeted since
    std::string sent_to;  // the goad that its last Goodbye said is this device's home
  };

  Place* PlaceOf(const std::string& address);
  const Place* PlaceOf(const std::string& address) const { return const_cast<Attachment*>(this)->PlaceOf(address); }
  size_t Rank(const Place& place) const;             // 0 = preferred to all others
  bool Blocked(const Place& place) const;            // a stream of it must end first
  bool Soon(const Place& place, Instant now) const;  // it may be opened, and has not failed since the last greeting
  const Place* Next() const;                         // the one to be opened when there is no stream
  const Place* Better(const Stream& than) const;     // the first to be tried that is preferred, whatever the time
  bool Name(const std::string& address);             // as goad named it; false: it is not to be followed
  void Spread(const std::string& left, Instant from, std::mt19937_64& random);
  absl::Duration GreetingTime(const std::string& address) const;
  uint64_t Open(const Place& place, Instant now);
  Stream* Mine(uint64_t generation) { return const_cast<Stream*>(Find(generation)); }

  const absl::Duration backoff_first_, backoff_most_, return_after_;
  const bool follows_any_;  // an address that is not in the options
  size_t listed_;           // places_ of the options, in order of preference; behind them a few that goad named
  std::vector<Place> places_;
  std::string home_;                           // goad says that it is this device's; preferred to all
  Instant moved_ = -absl::InfiniteDuration();  // when that was last followed
  // Named by one that is left for a while: to be tried first, and after `from` preferred to all. Until it is left.
  struct Hop {
    std::string address, from;
  } hop_;
  std::list<Stream> streams_;
  uint64_t generation_ = 0;
  uint64_t current_ = 0, trial_ = 0;         // 0 = none
  Instant now_ = -absl::InfiniteDuration();  // of the last event
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_SRC_ATTACHMENT_H_
