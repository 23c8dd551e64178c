#include "client_sdk/loadgen/device_fleet.h"

#include <algorithm>
#include <cmath>
#include <condition_variable>
#include <map>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>

#include "absl/strings/str_cat.h"
#include "scheduler/workload/radio.h"

namespace goad::loadgen {
namespace {

using Clock = std::chrono::steady_clock;

// What is to happen when, on the calling thread; other threads may add to it.
class Agenda {
 public:
  void At(Clock::time_point when, std::function<void()> what) {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      items_.emplace(when, std::move(what));
    }
    wake_.notify_one();
  }
  void After(absl::Duration delay, std::function<void()> what) {
    At(Clock::now() + absl::ToChronoNanoseconds(delay), std::move(what));
  }
  // Runs what falls due until done() or `until`.
  void Run(Clock::time_point until, const std::function<bool()>& done) {
    std::unique_lock<std::mutex> lock(mutex_);
    while (Clock::now() < until) {
      if (done()) return;
      if (items_.empty() || items_.begin()->first > Clock::now()) {
        wake_.wait_until(lock, items_.empty() ? until : std::min(until, items_.begin()->first));
        continue;
      }
      const auto what = std::move(items_.begin()->second);
      items_.erase(items_.begin());
      lock.unlock();
      what();
      lock.lock();
    }
  }

 private:
  std::mutex mutex_;
  std::condition_variable wake_;
  std::multimap<Clock::time_point, std::function<void()>> items_;
};

struct Device {
  std::unique_ptr<Client> client;
  std::unique_ptr<sched::EmulatedRadio> radio = nullptr;
  std::map<std::string, size_t> places = {};  // of the sites in it
};

class Fleet {
 public:
  Fleet(const FleetOptions& options, const std::vector<sched::RecordedQuestion>& workload)
      : options_(options), random_(options.seed), outcomes_(static_cast<size_t>(options.questions)) {
    std::vector<size_t> order(workload.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::shuffle(order.begin(), order.end(), random_);
    for (size_t k = 0; k < outcomes_.size(); ++k) outcomes_[k].question = &workload[order[k % order.size()]];
  }

  absl::Status Connect() {
    for (int d = 0; d < options_.devices; ++d) {
      ClientOptions client = options_.client;
      client.device_name = absl::StrCat(client.device_name, "-", d);
      devices_.push_back({Client::Connect(std::move(client))});
      if (absl::Status status = devices_.back().client->status(); !status.ok()) return status;
    }
    KeepLooking();
    agenda_.Run(Clock::now() + std::chrono::seconds(10), [this] { return AllConnected(); });
    for (Device& device : devices_) {
      if (!device.client->connected()) {
        return absl::UnavailableError(absl::StrCat("goad at ", options_.client.address, " cannot be reached"));
      }
      const std::vector<Site> sites = device.client->sites();  // and neighbours': their order changes with the goad
      for (const Site& site : sites) device.places.emplace(site.name, device.places.size());
      device.radio = std::make_unique<sched::EmulatedRadio>(random_, sites.size());
      ReportLinks(device);
    }
    return absl::OkStatus();
  }

  void Play(const std::function<void(const Progress&)>& progress) {
    double at_s = 0;
    std::exponential_distribution<double> gap(options_.rate_per_s);
    std::uniform_int_distribution<size_t> which(0, devices_.size() - 1);
    const auto start = Clock::now();
    for (size_t k = 0; k < outcomes_.size(); ++k) {
      at_s += gap(random_);
      Device* device = &devices_[which(random_)];
      agenda_.At(start + absl::ToChronoNanoseconds(absl::Seconds(at_s)),
                 [this, device, k] { Ask(*device, outcomes_[k]); });
    }
    ShowProgress(progress);
    const auto until = start + absl::ToChronoNanoseconds(absl::Seconds(at_s) + options_.give_up);
    agenda_.Run(until, [this] { return answered_ == static_cast<int>(outcomes_.size()); });
    if (options_.local != nullptr) options_.local->Quiet();
    devices_.clear();  // whatever is still live is answered CANCELLED, which is no answer: it stays lost
    progress(Count());
  }

  std::vector<Outcome> TakeOutcomes() { return std::move(outcomes_); }

 private:
  bool AllConnected() const {
    return std::all_of(devices_.begin(), devices_.end(), [](const Device& d) { return d.client->connected(); });
  }
  void KeepLooking() {  // turns the agenda while connections are made
    if (!AllConnected()) agenda_.After(absl::Milliseconds(20), [this] { KeepLooking(); });
  }

  void ReportLinks(Device& device) {
    const std::vector<Site> sites = device.client->sites();
    const std::vector<double> gain = device.radio->Fade(random_);
    std::vector<Link> links;
    for (const Site& site : sites) {
      const auto place = device.places.find(site.name);
      if (place == device.places.end()) continue;  // it came later
      const double g = gain[place->second];
      Link link;
      link.site = site.name;
      if (site.neighbour.empty() ? site.measured : sites[0].measured) {  // a neighbour's are taken to be as its own
        link.uplink_bps = 100e6 * std::log2(1 + 0.2 * g / 4e-13);        // what that radio would measure alone
      } else {
        link.gain_db = std::max(-300.0, 10 * std::log10(g));
      }
      links.push_back(link);
    }
    device.client->ReportLinks(std::move(links));
    agenda_.After(options_.link_period, [this, &device] { ReportLinks(device); });
  }

  void Ask(Device& device, Outcome& outcome) {
    ++asked_;
    outcome.uncertainty = outcome.question->uncertainty;
    if (options_.local != nullptr) {
      const bool begun = options_.local->Begin(
          outcome.question->prompt, options_.max_output_tokens,
          [this, &device, &outcome](std::optional<LiveAnswer> live) {
            agenda_.After(absl::ZeroDuration(), [this, &device, &outcome, live] {
              if (live) outcome.live = true, outcome.uncertainty = live->uncertainty;
              AskGoad(device, outcome, live ? std::optional(sched::NormalisedAnswer(live->text)) : std::nullopt);
            });
          });
      if (begun) return;
    }
    AskGoad(device, outcome, std::nullopt);
  }

  // `local_answer`: what the live device model says; the recorded one otherwise.
  void AskGoad(Device& device, Outcome& outcome, std::optional<std::string> local_answer) {
    const sched::RecordedQuestion& question = *outcome.question;
    const auto asked_at = Clock::now();  // a device is slower than its model here: its time is emulated from now on
    const absl::Duration local = absl::Seconds(question.device.local_s() * options_.device_factor);
    Query query;
    query.id = absl::StrCat(run_id_, "-", ++ids_);
    query.prompt = question.prompt;
    query.uncertainty = outcome.uncertainty;
    query.prompt_tokens = question.prompt_tokens;
    query.max_output_tokens = options_.max_output_tokens;
    query.local_delay = local;
    if (options_.kinds) query.kind = question.kind;
    AskCallbacks callbacks;
    callbacks.on_grant = [this](const Decision& decision, std::function<void()> send) {
      agenda_.After(decision.predicted_upload, std::move(send));  // the emulated radio
    };
    callbacks.on_done = [this, &device, &outcome, id = query.id, local, asked_at, local_answer](const Answer& answer) {
      // On to this thread's agenda: outcomes have one writer. A local answer is the device's model at work.
      const bool edge = answer.source == Answer::Source::kEdge;
      if (!edge && answer.why_local == "CANCELLED") return;
      agenda_.After(edge ? absl::ZeroDuration() : local,
                    [this, &device, &outcome, id, answer, edge, local, asked_at, local_answer] {
                      Finish(outcome, answer, edge, absl::FromChrono(Clock::now() - asked_at), local_answer);
                      if (!edge) device.client->ReportLocal(id, local);
                      device.client->ReportQuality(id, outcome.correct ? 1 : 0);
                    });
    };
    device.client->AskAsync(std::move(query), std::move(callbacks));
  }

  void Finish(Outcome& outcome, const Answer& answer, bool edge, absl::Duration since_asked,
              const std::optional<std::string>& local_answer) {
    if (++outcome.answers > 1) return;
    ++answered_;
    outcome.edge = edge;
    outcome.reason = edge ? answer.decision.reason : answer.why_local;
    outcome.delay = edge ? answer.delay : since_asked;
    if (!edge) {
      ++local_;
      const sched::RecordedAnswer& recorded = outcome.question->device;
      outcome.correct = local_answer ? *local_answer == outcome.question->answer : recorded.correct;
      outcome.as_recorded = !local_answer || *local_answer == recorded.answer;
      return;
    }
    ++edge_;
    const std::string text = sched::NormalisedAnswer(answer.text);
    outcome.correct = text == outcome.question->answer;
    outcome.as_recorded = text == outcome.question->edge.answer;
    outcome.first_token_after = answer.first_token_after;
    if (answer.output_tokens >= 2) {
      outcome.between_tokens = (answer.delay - answer.first_token_after) / (answer.output_tokens - 1);
    }
  }

  Progress Count() const { return {asked_, edge_, local_, asked_ - answered_}; }
  void ShowProgress(const std::function<void(const Progress&)>& progress) {
    progress(Count());
    agenda_.After(absl::Seconds(1), [this, progress] { ShowProgress(progress); });
  }

  const FleetOptions options_;
  std::mt19937_64 random_;
  const std::string run_id_ = absl::StrCat(absl::Hex(std::random_device{}()), absl::Hex(std::random_device{}()));
  Agenda agenda_;
  std::vector<Outcome> outcomes_;
  int ids_ = 0, asked_ = 0, answered_ = 0, edge_ = 0, local_ = 0;
  std::vector<Device> devices_;  // last: its callbacks use the rest
};

}  // namespace

absl::StatusOr<std::vector<Outcome>> PlayFleet(const FleetOptions& options,
                                               const std::vector<sched::RecordedQuestion>& workload,
                                               const std::function<void(const Progress&)>& progress) {
  Fleet fleet(options, workload);
  if (absl::Status status = fleet.Connect(); !status.ok()) return status;
  fleet.Play(progress);
  return fleet.TakeOutcomes();
}

}  // namespace goad::loadgen
