#include "goad/client.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <exception>
#include <future>
#include <map>
#include <mutex>
#include <random>
#include <thread>

#include "absl/strings/str_cat.h"
#include "client_sdk/src/checks.h"
#include "client_sdk/src/client_core.h"
#include "client_sdk/src/random.h"
#include "client_sdk/src/stream_connection.h"

namespace goad {
namespace {

internal::Instant Now() { return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); }

// An app's function; what it throws, in words, else empty.
template <typename Function>
std::string Caught(const Function& function) {
  try {
    function();
    return "";
  } catch (const std::exception& thrown) {
    return internal::Clip(std::string("exception: ") + thrown.what(), 512);
  } catch (...) {
    return "something that is no std::exception";
  }
}

}  // namespace

// One worker thread owns the core: everything else posts work to it. Held by the Client, by the worker, and by calls
// under way, so that a Client can be destroyed at any time, also by a callback.
struct Client::Impl : std::enable_shared_from_this<Client::Impl> {
  explicit Impl(ClientOptions options)
      : core(options, (uint64_t{std::random_device{}()} << 32) | std::random_device{}()) {
    refused = internal::CheckOptions(options);
    if (refused.ok()) {
      auto made = internal::MakeGrpcOpener(options);
      refused = made.status();
      if (refused.ok()) opener = *std::move(made);
    }
    if (!refused.ok()) core.Refuse(refused, Now());
  }

  void Start() {
    thread = std::thread([self = shared_from_this()] { self->Run(); });
    worker = thread.get_id();
  }
  bool OnWorker() const { return std::this_thread::get_id() == worker; }

  void Close() {
    Post([this] { core.Shutdown(Now()); });
    {
      std::lock_guard<std::mutex> lock(mutex);
      stop = true;
    }
    wake.notify_one();
    if (OnWorker()) {
      thread.detach();  // destroyed by a callback: the worker ends after it
    } else {
      thread.join();
    }
  }

  // False when the client is being destroyed.
  bool Post(std::function<void()> item) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      if (stop) return false;
      work.push_back(std::move(item));
    }
    wake.notify_one();
    return true;
  }

  void Run() {
    for (;;) {
      Apply();
      std::deque<std::function<void()>> batch;
      bool last = false;
      {
        std::unique_lock<std::mutex> lock(mutex);
        const absl::Duration wait = core.NextWake() - Now();
        if (work.empty() && !stop && wait > absl::ZeroDuration()) {
          wake.wait_for(lock, absl::ToChronoNanoseconds(std::min(wait, absl::Seconds(60))));
        }
        batch.swap(work);
        last = stop && batch.empty();
      }
      for (auto& item : batch) {
        item();
        Apply();
      }
      if (last) return;
      core.Tick(Now());
      Apply();
      if (welcomes != core.welcomes() || greeted != core.greeted()) {
        std::lock_guard<std::mutex> lock(mutex);
        sites = core.sites();
        limits = core.limits();
        welcomes = core.welcomes();
        greeted = core.greeted();
      }
    }
  }

  void Apply() {
    for (std::vector<internal::Action> actions = core.TakeActions(); !actions.empty(); actions = core.TakeActions()) {
      for (internal::Action& action : actions) {
        if (const auto* open = std::get_if<internal::OpenStream>(&action)) {
          OpenStream(open->generation, open->address);
        } else if (auto* send = std::get_if<internal::SendFrame>(&action)) {
          if (const auto to = streams.find(send->generation); to != streams.end())
            to->second->Write(std::move(send->frame));
        } else if (auto* notify = std::get_if<internal::Notify>(&action)) {
          const std::string thrown = Caught(notify->call);
          if (!thrown.empty()) core.CallbackFailed(notify->query_id, thrown, Now());
        } else if (auto closed = streams.extract(std::get<internal::CloseStream>(action).generation)) {
          closed.mapped()->Close();
        }
      }
    }
  }

  void OpenStream(uint64_t generation, const std::string& address) {
    internal::StreamConnection::Reports reports;
    reports.on_frame = [weak = weak_from_this(), generation](v1::ServerFrame frame, std::function<void()> read_next) {
      const auto self = weak.lock();
      const bool posted =
          self != nullptr && self->Post([impl = self.get(), generation, frame = std::move(frame), read_next] {
            impl->core.OnFrame(generation, frame, Now());
            read_next();
          });
      if (!posted) read_next();  // the stream is closed; it ends when it is read to its end
    };
    reports.on_lost = [weak = weak_from_this(), generation](const std::string& why, absl::Duration retry_after) {
      const auto self = weak.lock();
      if (self == nullptr) return;
      self->Post([impl = self.get(), generation, why, retry_after] {
        impl->core.OnStreamLost(generation, why, Now(), retry_after);
        impl->streams.erase(generation);
      });
    };
    streams[generation] = opener->Open(address, std::move(reports));
  }

  std::string AskAsync(Query query, AskCallbacks callbacks) {
    if (query.id.empty()) {
      static thread_local std::mt19937_64 random((uint64_t{std::random_device{}()} << 32) | std::random_device{}());
      query.id = internal::RandomUuid(random);
    }
    std::string id = query.id;
    const internal::Instant now = Now();  // the query's time starts here, not when the worker gets to it
    const auto send_later = [weak = weak_from_this(), id] {
      const auto self = weak.lock();
      if (self != nullptr) self->Post([impl = self.get(), id] { impl->core.SendPrompt(id); });
    };
    const bool posted =
        Post([this, now, send_later, query = std::move(query), callbacks = std::move(callbacks)]() mutable {
          core.Ask(std::move(query), std::move(callbacks), send_later, now);
        });
    return posted ? id : "";
  }

  void ReportLinks(std::vector<Link> links) {
    {
      std::lock_guard<std::mutex> lock(mutex);
      const internal::Instant now = Now();
      const bool waiting = !reported.empty();
      for (Link& link : links) {
        if (reported.size() >= 256 && reported.count(link.site) == 0)
          continue;  // the core takes 64 and tells of the others
        const std::string site = link.site;
        reported[site] = {std::move(link), now};
      }
      if (waiting || reported.empty()) return;  // who is on the way will take these too
    }
    Post([this] {
      std::map<std::string, std::pair<Link, internal::Instant>> latest;
      {
        std::lock_guard<std::mutex> lock(mutex);
        latest.swap(reported);
      }
      const internal::Instant now = Now();
      std::vector<Link> aged;
      for (auto& [site, entry] : latest) {
        entry.first.age += now - entry.second;
        aged.push_back(std::move(entry.first));
      }
      core.ReportLinks(std::move(aged), now);
    });
  }

  internal::ClientCore core;  // the worker thread's own, as are `streams`, by generation, and `opener`
  absl::Status refused;       // constant after construction
  std::unique_ptr<internal::StreamOpener> opener;  // null when refused
  std::map<uint64_t, std::shared_ptr<internal::StreamConnection>> streams;
  std::thread thread;
  std::thread::id worker;
  std::atomic<bool> greeted{false};
  uint64_t welcomes = 0;  // the worker's: those that `sites` is of

  std::mutex mutex;  // guards the rest
  std::condition_variable wake;
  std::deque<std::function<void()>> work;  // bounded by live queries, and one frame per stream
  bool stop = false;
  std::map<std::string, std::pair<Link, internal::Instant>> reported;  // not yet with the core
  std::vector<Site> sites;
  std::optional<Limits> limits;
};

Client::Client(std::shared_ptr<Impl> impl) : impl_(std::move(impl)) { impl_->Start(); }
Client::~Client() { impl_->Close(); }

std::unique_ptr<Client> Client::Connect(ClientOptions options) {
  return std::unique_ptr<Client>(new Client(std::make_shared<Impl>(std::move(options))));
}

absl::Status Client::status() const { return impl_->refused; }

std::string Client::AskAsync(Query query, AskCallbacks callbacks) {
  return impl_->AskAsync(std::move(query), std::move(callbacks));
}

Answer Client::Ask(Query query, std::function<std::string()> local, std::function<void(const std::string&)> on_text) {
  Answer answer;
  if (impl_->OnWorker()) {
    answer.why_local = "ASK_IN_CALLBACK";
    answer.detail = "Ask would wait for the thread that it is called on; use AskAsync";
    return answer;
  }
  const std::shared_ptr<Impl> impl = impl_;  // the Client may be gone when the answer comes
  auto done = std::make_shared<std::promise<Answer>>();
  AskCallbacks callbacks;
  callbacks.on_text = std::move(on_text);
  callbacks.on_done = [done](const Answer& finished) { done->set_value(finished); };
  const internal::Instant start = Now();
  const std::string id = impl->AskAsync(std::move(query), std::move(callbacks));
  if (id.empty()) {
    answer.why_local = "CANCELLED";
    answer.detail = "the client was closed";
    return answer;
  }
  answer = done->get_future().get();
  if (answer.source == Answer::Source::kEdge || answer.why_local == "CANCELLED" ||
      answer.why_local == "CALLBACK_FAILED" || !local) {
    return answer;
  }
  const internal::Instant local_start = Now();
  const std::string thrown = Caught([&] { answer.text = local(); });
  answer.delay = Now() - start;
  if (!thrown.empty()) {
    answer.text.clear();
    answer.detail = absl::StrCat("the local model, asked because of ", answer.why_local, ", threw: ", thrown);
    answer.why_local = "CALLBACK_FAILED";
    return answer;
  }
  answer.source = Answer::Source::kLocal;
  const absl::Duration delay = Now() - local_start;
  impl->Post([raw = impl.get(), id, delay] { raw->core.ReportLocal(id, delay, Now()); });
  return answer;
}

void Client::Cancel(const std::string& query_id) {
  impl_->Post([impl = impl_.get(), query_id] { impl->core.Cancel(query_id, Now()); });
}

void Client::ReportLinks(std::vector<Link> links) { impl_->ReportLinks(std::move(links)); }

void Client::ReportLocal(const std::string& query_id, absl::Duration delay) {
  impl_->Post([impl = impl_.get(), query_id, delay] { impl->core.ReportLocal(query_id, delay, Now()); });
}

void Client::ReportQuality(const std::string& query_id, double quality) {
  impl_->Post([impl = impl_.get(), query_id, quality] { impl->core.ReportQuality(query_id, quality, Now()); });
}

bool Client::connected() const { return impl_->greeted; }

std::vector<Site> Client::sites() const {
  std::lock_guard<std::mutex> lock(impl_->mutex);
  return impl_->sites;
}

std::optional<Limits> Client::limits() const {
  std::lock_guard<std::mutex> lock(impl_->mutex);
  return impl_->limits;
}

}  // namespace goad
