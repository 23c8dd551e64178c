#include "client_sdk/device/app_listener.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <system_error>
#include <utility>

#include "client_sdk/device/socket_stream.h"

namespace goad::device {
namespace {

using Clock = SocketStream::Clock;
using std::chrono::milliseconds;

constexpr auto kRequestTime = std::chrono::seconds(60);  // from its first byte to its last
constexpr auto kWriteTime = std::chrono::seconds(30);    // that an app may take nothing
constexpr auto kIdleTime = std::chrono::seconds(30);     // between two requests
constexpr auto kSlice = milliseconds(100);               // how soon a change is seen
constexpr int kMostRequests = 10000;                     // of one connection
constexpr int kMostWaiting = 1024;                       // connections that nobody has accepted yet
constexpr int64_t kMostBytes = 64 << 20;                 // of all requests that are read or answered

class AppConnection : public SocketStream {
 public:
  AppConnection(int socket, const std::atomic<bool>* given_up, std::atomic<int64_t>* bytes)
      : SocketStream(socket, kWriteTime), given_up_(given_up), bytes_of_all_(bytes) {}
  ~AppConnection() override { EndRequest(); }

  void BeginRequest() {
    ReadUntil(Clock::now() + kRequestTime);
    BeginHead();
    EndRequest();
  }
  void EndRequest() { *bytes_of_all_ -= std::exchange(bytes_, 0); }
  bool Gone() const {
    if (*given_up_) return true;
    pollfd entry{socket(), POLLRDHUP, 0};
    return poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }
  bool is_writable() const override { return !Gone() && SocketStream::is_writable(); }

  bool close_after = false;
  bool too_much = false;

 protected:
  bool Count(int64_t bytes) override {
    bytes_ += bytes;
    too_much = (*bytes_of_all_ += bytes) > kMostBytes;
    return !too_much;
  }

 private:
  const std::atomic<bool>* const given_up_;
  std::atomic<int64_t>* const bytes_of_all_;
  int64_t bytes_ = 0;  // of them, this one's
};

thread_local AppConnection* current_connection = nullptr;

}  // namespace

// --- threads ---------------------------------------------------------------------------------------------------------

void ConnectionThreads::enqueue(std::function<void()> task) {
  std::unique_lock<std::mutex> lock(mutex_);
  const auto room = [this] { return stop_ || idle_ > tasks_.size() || threads_.size() < most_; };
  crowded_ = !room();
  wake_.wait(lock, room);
  crowded_ = false;
  tasks_.push_back(std::move(task));
  if (idle_ < tasks_.size() && threads_.size() < most_) {
    try {
      threads_.emplace_back([this] { Run(); });
    } catch (const std::system_error&) {  // then it waits for one of those that are there
    }
  }
  wake_.notify_all();
}

void ConnectionThreads::Run() {
  std::unique_lock<std::mutex> lock(mutex_);
  for (;;) {
    ++idle_;
    wake_.notify_all();
    wake_.wait(lock, [this] { return stop_ || !tasks_.empty(); });
    --idle_;
    if (tasks_.empty()) return;
    const std::function<void()> task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    task();
    lock.lock();
  }
}

void ConnectionThreads::shutdown() {
  std::list<std::thread> threads;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    stop_ = true;
    threads.swap(threads_);
  }
  wake_.notify_all();
  for (std::thread& thread : threads) thread.join();
}

// --- connections -----------------------------------------------------------------------------------------------------

AppListener::AppListener(size_t most_connections) {
  new_task_queue = [this, most_connections] { return threads_ = new ConnectionThreads(most_connections); };
  set_tcp_nodelay(true);
  set_socket_options([](socket_t socket) {  // httplib's own would share the port with whoever listens there
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  set_keep_alive_max_count(kMostRequests);  // what it tells apps; who serves them is below
  set_keep_alive_timeout(std::chrono::seconds(kIdleTime).count());
}

int AppListener::Bind(const std::string& host, int port) {
  const int bound = port == 0 ? bind_to_any_port(host) : bind_to_port(host, port) ? port : -1;
  // httplib's queue holds 5: of apps that connect together, the sixth would be refused, or come again after a second.
  if (bound >= 0 && ::listen(svr_sock_, kMostWaiting) != 0) return -1;
  return bound;
}

bool AppListener::AppGone() { return current_connection != nullptr && current_connection->Gone(); }

bool AppListener::TooMuchAtOnce() { return current_connection != nullptr && current_connection->too_much; }

void AppListener::CloseAfterThis() {
  if (current_connection != nullptr) current_connection->close_after = true;
}

bool AppListener::process_and_close_socket(socket_t socket) {
  AppConnection connection(socket, &given_up_, &bytes_);
  current_connection = &connection;
  bool closed = false;
  for (int left = kMostRequests; left > 0 && !closed && !connection.close_after; --left) {
    const auto until = Clock::now() + kIdleTime;
    bool begins = false;
    while (!(begins = connection.Readable(kSlice)) && Clock::now() < until && svr_sock_ != INVALID_SOCKET &&
           !threads_->crowded())
      continue;
    if (!begins || given_up_) break;
    connection.BeginRequest();
    bool head_is_read = false;
    const bool goes_on =
        process_request(connection, left == 1 || svr_sock_ == INVALID_SOCKET, closed, [&](httplib::Request& request) {
          head_is_read = true;
          connection.HeadIsRead();
          request.ranges.clear();  // an answer is whole: httplib would cut it, as often as it is told
        });
    // What comes after a head that is refused is not the next request: a page of the web could make it look like one.
    if (!goes_on || !head_is_read) {
      connection.close_after = true;
      break;
    }
    connection.EndRequest();
  }
  current_connection = nullptr;
  shutdown(socket, SHUT_WR);
  // A close with something unread is a reset, which may overtake the answer.
  char rest[4096];
  const auto until = Clock::now() + std::chrono::seconds(1);
  while (connection.close_after && SocketStream::Ready(socket, POLLIN, until) &&
         recv(socket, rest, sizeof(rest), 0) > 0)
    continue;
  close(socket);
  return true;
}

}  // namespace goad::device
