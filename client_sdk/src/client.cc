#include "goad/client.h"

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <future>
#include <mutex>
#include <random>
#include <thread>

#include "src/client_core.h"
#include "src/stream_connection.h"

namespace goad {
namespace {

internal::Instant Now() { return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch()); }

}  // namespace

// One worker thread owns the core: everything else posts work to it. Shared with the streams' reports, which may come
// after the client is gone.
struct Client::Impl {
  struct Worker {
    std::mutex mutex;
    std::condition_variable wake;
    std::deque<std::function<void()>> work;  // bounded by live queries, and one frame per stream
    bool stop = false;

    void Post(std::function<void()> item) {
      {
        std::lock_guard<std::mutex> lock(mutex);
        if (stop) return;
        work.push_back(std::move(item));
      }
      wake.notify_one();
    }
  };

  explicit Impl(ClientOptions options)
      : core(options, (uint64_t{std::random_device{}()} << 32) | std::random_device{}()),
        opener(internal::MakeGrpcOpener(options)), thread([this] { Run(); }) {}

  ~Impl() {
    worker->Post([this] { core.Shutdown(Now()); });
    {
      std::lock_guard<std::mutex> lock(worker->mutex);
      worker->stop = true;
    }
    worker->wake.notify_one();
    thread.join();
  }

  void Run() {
    for (;;) {
      std::deque<std::function<void()>> batch;
      bool stop = false;
      {
        std::unique_lock<std::mutex> lock(worker->mutex);
        const absl::Duration wait = core.NextWake() - Now();
        if (worker->work.empty() && !worker->stop && wait > absl::ZeroDuration()) {
          worker->wake.wait_for(lock, absl::ToChronoNanoseconds(std::min(wait, absl::Seconds(60))));
        }
        batch.swap(worker->work);
        stop = worker->stop && batch.empty();
      }
      for (auto& item : batch) {
        item();
        Apply();
      }
      if (stop) return;
      core.Tick(Now());
      Apply();
      if (greeted != core.greeted()) {
        std::lock_guard<std::mutex> lock(worker->mutex);
        sites = core.sites();
        greeted = core.greeted();
      }
    }
  }

  void Apply() {
    for (internal::Action& action : core.TakeActions()) {
      if (const auto* open = std::get_if<internal::OpenStream>(&action)) {
        OpenStream(open->generation);
      } else if (auto* send = std::get_if<internal::SendFrame>(&action)) {
        if (stream != nullptr) stream->Write(std::move(send->frame));
      } else if (auto* notify = std::get_if<internal::Notify>(&action)) {
        notify->call();
      } else if (stream != nullptr) {
        stream->Close();
        stream = nullptr;
      }
    }
  }

  void OpenStream(uint64_t generation) {
    internal::StreamConnection::Reports reports;
    reports.on_frame = [w = worker, this, generation](v1::ServerFrame frame, std::function<void()> read_next) {
      w->Post([this, generation, frame = std::move(frame), read_next = std::move(read_next)] {
        core.OnFrame(generation, frame, Now());
        read_next();
      });
    };
    reports.on_lost = [w = worker, this, generation](const std::string& why) {
      w->Post([this, generation, why] { core.OnStreamLost(generation, why, Now()); });
    };
    stream = opener->Open(std::move(reports));
  }

  const std::shared_ptr<Worker> worker = std::make_shared<Worker>();
  internal::ClientCore core;                          // the worker thread's own, as is `stream`
  const std::unique_ptr<internal::StreamOpener> opener;
  std::shared_ptr<internal::StreamConnection> stream;
  std::atomic<bool> greeted{false};
  std::vector<Site> sites;                            // guarded by worker->mutex
  std::thread thread;
};

Client::Client(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
Client::~Client() = default;

std::unique_ptr<Client> Client::Connect(ClientOptions options) {
  return std::unique_ptr<Client>(new Client(std::make_unique<Impl>(std::move(options))));
}

std::string Client::AskAsync(Query query, AskCallbacks callbacks) {
  if (query.id.empty()) {
    static thread_local std::mt19937_64 random((uint64_t{std::random_device{}()} << 32) | std::random_device{}());
    query.id = internal::RandomUuid(random);
  }
  const std::string id = query.id;
  Impl* impl = impl_.get();
  const internal::Instant now = Now();  // the query's time starts here, not when the worker gets to it
  impl->worker->Post([impl, id, now, query = std::move(query), callbacks = std::move(callbacks)] {
    impl->core.Ask(query, callbacks,
                   [impl, id] { impl->worker->Post([impl, id] { impl->core.SendPrompt(id, Now()); }); }, now);
  });
  return id;
}

Answer Client::Ask(Query query, std::function<std::string()> local, std::function<void(const std::string&)> on_text) {
  auto done = std::make_shared<std::promise<Answer>>();
  std::future<Answer> future = done->get_future();
  AskCallbacks callbacks;
  callbacks.on_text = std::move(on_text);
  callbacks.on_done = [done](const Answer& answer) { done->set_value(answer); };
  const internal::Instant start = Now();
  const std::string id = AskAsync(std::move(query), std::move(callbacks));
  Answer answer = future.get();
  if (answer.source == Answer::Source::kEdge || !local) return answer;
  const internal::Instant local_start = Now();
  answer.text = local();
  answer.source = Answer::Source::kLocal;
  answer.delay = Now() - start;
  ReportLocal(id, Now() - local_start);
  return answer;
}

void Client::Cancel(const std::string& query_id) {
  impl_->worker->Post([impl = impl_.get(), query_id] { impl->core.Cancel(query_id, Now()); });
}

void Client::ReportLinks(std::vector<Link> links) {
  impl_->worker->Post([impl = impl_.get(), links = std::move(links)] { impl->core.ReportLinks(links, Now()); });
}

void Client::ReportLocal(const std::string& query_id, absl::Duration delay) {
  impl_->worker->Post([impl = impl_.get(), query_id, delay] { impl->core.ReportLocal(query_id, delay); });
}

bool Client::connected() const { return impl_->greeted; }

std::vector<Site> Client::sites() const {
  std::lock_guard<std::mutex> lock(impl_->worker->mutex);
  return impl_->sites;
}

}  // namespace goad
