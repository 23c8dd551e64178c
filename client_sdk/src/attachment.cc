#include "client_sdk/src/attachment.h"

#include <algorithm>
#include <utility>

#include "client_sdk/src/checks.h"
#include "client_sdk/src/random.h"
#include "client_sdk/src/wire.h"

namespace goad::internal {
namespace {

constexpr absl::Duration kGreetingTime = absl::Seconds(20);      // as long as gRPC tries to connect
constexpr absl::Duration kFirstGreetingTime = absl::Seconds(3);  // where there is another goad to try
constexpr absl::Duration kSilence = absl::Seconds(3);
constexpr absl::Duration kSpread = absl::Milliseconds(500);  // over which those who leave a goad come to the next
constexpr size_t kMostNamed = 4;                             // by goad, beside those of the options
constexpr absl::Duration kLeastAway = absl::Seconds(1);      // from a goad that was lost, with another one there

}  // namespace

Attachment::Attachment(const ClientOptions& options)
    : backoff_first_(options.backoff_first),
      backoff_most_(options.backoff_most),
      return_after_(options.return_after),
      // A token is told to nobody whom only another's word makes a goad, unless TLS shows who it is.
      follows_any_(options.token.empty() || !options.root_ca_file.empty()) {
  places_.push_back({options.address, Reconnect(backoff_first_, backoff_most_)});
  for (const std::string& address : options.other_addresses) {
    if (PlaceOf(address) == nullptr) places_.push_back({address, Reconnect(backoff_first_, backoff_most_)});
  }
  listed_ = places_.size();
}

void Attachment::Never() {
  streams_.clear();
  current_ = trial_ = 0;
  for (Place& place : places_) place.reconnect.Never();
}

// --- what is known ---------------------------------------------------------------------------------------------------

Attachment::Place* Attachment::PlaceOf(const std::string& address) {
  const auto found =
      std::find_if(places_.begin(), places_.end(), [&](const Place& place) { return place.address == address; });
  return found == places_.end() ? nullptr : &*found;
}

const Attachment::Stream* Attachment::Find(uint64_t generation) const {
  const auto found = std::find_if(streams_.begin(), streams_.end(),
                                  [&](const Stream& stream) { return stream.generation == generation; });
  return found == streams_.end() ? nullptr : &*found;
}

std::vector<uint64_t> Attachment::All() const {
  std::vector<uint64_t> all;
  for (const Stream& stream : streams_) all.push_back(stream.generation);
  return all;
}

const Attachment::Stream* Attachment::ready() const {
  const Stream* stream = current();
  return stream != nullptr && stream->state == State::kReady ? stream : nullptr;
}

size_t Attachment::Rank(const Place& place) const {
  if (place.address == home_) return 0;
  const auto listed = [this](const Place& each) { return 2 + 2 * static_cast<size_t>(&each - places_.data()); };
  if (place.address != hop_.address) return listed(place);
  const Place* from = PlaceOf(hop_.from);
  return from == nullptr ? listed(place) : from->address == home_ ? 1 : listed(*from) + 1;
}

bool Attachment::Blocked(const Place& place) const {
  return std::any_of(streams_.begin(), streams_.end(),
                     [&](const Stream& stream) { return stream.address == place.address && !stream.come_again; });
}

bool Attachment::Soon(const Place& place, Instant now) const {
  return !place.failed && !Blocked(place) && place.reconnect.at() <= now + 2 * kSpread;
}

// The most preferred of those that can be opened now, or soon after the first one can; none again before each was
// tried.
const Attachment::Place* Attachment::Next() const {
  Instant first = absl::InfiniteDuration();
  for (const Place& place : places_) {
    if (!Blocked(place)) first = std::min(first, std::max(place.reconnect.at(), now_));
  }
  const Place* best = nullptr;
  for (const Place& place : places_) {
    if (Blocked(place) || place.reconnect.at() > first + kSpread) continue;
    if (place.address == hop_.address) return &place;
    if (best == nullptr || std::make_pair(place.failed, Rank(place)) < std::make_pair(best->failed, Rank(*best))) {
      best = &place;
    }
  }
  return best;
}

const Attachment::Place* Attachment::Better(const Stream& than) const {
  const Place* const now = PlaceOf(than.address);
  const Place* best = nullptr;
  for (const Place& place : places_) {
    if (Blocked(place) || (now != nullptr && Rank(place) >= Rank(*now))) continue;
    if (best == nullptr || place.reconnect.at() < best->reconnect.at()) best = &place;
  }
  return best;
}

Instant Attachment::opens_at() const {
  const Place* next = Next();
  return next != nullptr ? next->reconnect.at() : absl::InfiniteDuration();
}

bool Attachment::Hope(Instant now) const {
  if (current() != nullptr) return true;
  if (places_.size() == 1) return false;
  return std::any_of(places_.begin(), places_.end(), [&](const Place& place) { return Soon(place, now); });
}

bool Attachment::Elsewhere(uint64_t generation, Instant now) const {
  const std::string& from = Find(generation)->address;
  if ((generation == current_ ? trial_ : current_) != 0) return true;
  return std::any_of(places_.begin(), places_.end(),
                     [&](const Place& place) { return place.address != from && Soon(place, now); });
}

bool Attachment::Away(const std::string& address, Instant now) const {
  const Place* place = PlaceOf(address);
  return place != nullptr && place->away && place->reconnect.at() > now;
}

absl::Duration Attachment::GreetingTime(const std::string& address) const {
  const Place* place = PlaceOf(address);
  return places_.size() > 1 && place != nullptr && !place->failed ? kFirstGreetingTime : kGreetingTime;
}

// --- what happens ----------------------------------------------------------------------------------------------------

void Attachment::Heard(uint64_t generation, Instant now) {
  Stream* stream = Mine(generation);
  if (stream == nullptr) return;
  stream->heard = now;
  stream->unanswered = absl::InfiniteDuration();
}

bool Attachment::Silent(uint64_t generation, Instant sent, Instant now) {
  Stream* stream = Mine(generation);
  if (stream == nullptr || stream->heard > sent) return false;
  stream->unanswered = std::min(stream->unanswered, sent);
  return now - stream->unanswered >= kSilence && Elsewhere(generation, now);
}

bool Attachment::Greeted(uint64_t generation, const v1::Welcome& welcome, Instant now, std::mt19937_64& random) {
  Stream* stream = Mine(generation);
  if (stream == nullptr || stream->state != State::kGreeting) return false;
  stream->state = State::kReady;
  stream->welcome = welcome;
  if (generation == trial_) stream->well_at = now + return_after_ * (1 + RandomShare(random));
  for (Place& place : places_) place.failed = false;
  if (Place* place = PlaceOf(stream->address)) {
    place->reconnect.Greeted();
    place->away = false;
    place->sent_to.clear();
  }
  return true;
}

bool Attachment::SitesChanged(uint64_t generation, const v1::Sites& sites) {
  Stream* stream = Mine(generation);
  if (stream == nullptr || stream->state == State::kGreeting) return false;
  *stream->welcome.mutable_sites() = sites.sites();
  *stream->welcome.mutable_neighbours() = sites.neighbours();
  return true;
}

bool Attachment::Name(const std::string& address) {
  if (PlaceOf(address) != nullptr) return true;
  if (!follows_any_ || !CheckNamedAddress(address).ok()) return false;
  if (places_.size() >= listed_ + kMostNamed) places_.erase(places_.begin() + static_cast<ptrdiff_t>(listed_));
  places_.push_back({address, Reconnect(backoff_first_, backoff_most_)});
  return true;
}

// Those who leave a goad together must not come to the next one together.
void Attachment::Spread(const std::string& left, Instant from, std::mt19937_64& random) {
  for (Place& place : places_) {
    if (place.address != left) place.reconnect.NotBefore(from + kSpread * RandomShare(random));
  }
}

bool Attachment::Goodbye(uint64_t generation, const v1::Goodbye& goodbye, Instant now, std::mt19937_64& random) {
  now_ = now;
  Stream* stream = Mine(generation);
  if (stream == nullptr || stream->state == State::kLeaving) return false;
  const absl::Duration wait = ReadRetryAfter(goodbye.reconnect_after_s());
  stream->state = State::kLeaving;
  stream->come_again = wait == absl::ZeroDuration();
  if (Place* place = PlaceOf(stream->address)) place->reconnect.Goodbye(wait, now, random), place->away = true;
  if (generation == trial_) {
    trial_ = 0;
    return true;
  }
  const bool named =
      !goodbye.neighbour().empty() && goodbye.neighbour() != stream->address && Name(goodbye.neighbour());
  if (!named || !goodbye.moved()) {
    const Place* same = stream->come_again ? PlaceOf(stream->address) : nullptr;  // then it is the first
    Spread(stream->address, same != nullptr ? same->reconnect.at() : now, random);
  }
  hop_ = Hop();
  if (named && goodbye.moved()) {
    home_ = goodbye.neighbour();
    // Of a name that is new no wait is known, and a goad has as many as it likes.
    moved_ = std::max(now, moved_ + kSpread);
    PlaceOf(home_)->reconnect.NotBefore(moved_);
    if (Place* place = PlaceOf(stream->address)) place->sent_to = home_;
  }
  if (named && !goodbye.moved()) hop_ = {goodbye.neighbour(), stream->address};
  current_ = std::exchange(trial_, 0);
  return true;
}

std::optional<Attachment::State> Attachment::Lost(uint64_t generation, absl::Duration retry_after, Instant now,
                                                  std::mt19937_64& random) {
  now_ = now;
  const auto stream =
      std::find_if(streams_.begin(), streams_.end(), [&](const Stream& each) { return each.generation == generation; });
  if (stream == streams_.end()) return std::nullopt;
  const Stream lost = std::move(*stream);
  streams_.erase(stream);
  if (lost.address == hop_.address && lost.state != State::kLeaving) hop_ = Hop();
  if (Place* place = PlaceOf(lost.address)) {
    if (lost.state == State::kLeaving) {
      place->reconnect.LostAfterGoodbye(now, random);
    } else {
      place->away = true;
      // Whoever sent us there may be come back to.
      for (Place& sender : places_) {
        if (sender.sent_to != lost.address) continue;
        sender.sent_to.clear();
        sender.reconnect.Earlier(now + kSpread * RandomShare(random));
      }
      place->failed |= lost.state == State::kGreeting;
      place->reconnect.Lost(places_.size() > 1 ? std::max(retry_after, kLeastAway) : retry_after, now, random);
    }
  }
  if (generation == trial_) trial_ = 0;
  if (generation == current_) {
    Spread(lost.address, now, random);
    current_ = std::exchange(trial_, 0);
  }
  return lost.state;
}

// --- time ------------------------------------------------------------------------------------------------------------

std::vector<uint64_t> Attachment::Ungreeted(Instant now) const {
  std::vector<uint64_t> late;
  for (const Stream& stream : streams_) {
    if (stream.state == State::kGreeting && stream.greet_by <= now) late.push_back(stream.generation);
  }
  return late;
}

uint64_t Attachment::Open(const Place& place, Instant now) {
  Stream& stream = streams_.emplace_back();
  stream.generation = ++generation_;
  stream.address = place.address;
  stream.greet_by = now + GreetingTime(place.address);
  stream.heard = now;
  return generation_;
}

std::vector<Attachment::Step> Attachment::Advance(Instant now, const std::function<bool(uint64_t)>& busy) {
  now_ = now;
  std::vector<Step> steps;
  if (const Stream* trial = Find(trial_); trial != nullptr && trial->state == State::kReady && trial->well_at <= now) {
    if (Stream* left = Mine(current_)) left->state = State::kLeaving, left->come_again = true;
    current_ = std::exchange(trial_, 0);
    if (current()->address != hop_.address) hop_ = Hop();
  }
  for (auto stream = streams_.begin(); stream != streams_.end();) {
    if (stream->state == State::kLeaving && !busy(stream->generation)) {
      steps.push_back({stream->generation});
      stream = streams_.erase(stream);
    } else {
      ++stream;
    }
  }
  if (current() == nullptr) {
    const Place* next = Next();
    if (next != nullptr && next->reconnect.at() <= now) {
      current_ = Open(*next, now);
      steps.push_back({current_, true, next->address});
    }
  } else if (trial_ == 0 && ready() != nullptr) {
    const Place* better = Better(*current());
    if (better != nullptr && better->reconnect.at() <= now) {
      trial_ = Open(*better, now);
      steps.push_back({trial_, true, better->address});
    }
  }
  return steps;
}

Instant Attachment::NextWake(const std::function<bool(uint64_t)>& busy) const {
  Instant wake = absl::InfiniteDuration();
  for (const Stream& stream : streams_) {
    if (stream.state == State::kGreeting) wake = std::min(wake, stream.greet_by);
    if (stream.state == State::kLeaving && !busy(stream.generation)) return -absl::InfiniteDuration();
    if (stream.generation == trial_ && stream.state == State::kReady) wake = std::min(wake, stream.well_at);
  }
  if (current() == nullptr) return std::min(wake, opens_at());
  if (trial_ != 0 || ready() == nullptr) return wake;
  const Place* better = Better(*current());
  return better != nullptr ? std::min(wake, better->reconnect.at()) : wake;
}

}  // namespace goad::internal
