#include "client_sdk/device/app_listener.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <optional>
#include <system_error>
#include <utility>

namespace goad::device {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

constexpr auto kRequestTime = std::chrono::seconds(60);  // from its first byte to its last
constexpr auto kWriteTime = std::chrono::seconds(30);    // that an app may take nothing
constexpr auto kIdleTime = std::chrono::seconds(30);     // between two requests
constexpr auto kSlice = milliseconds(100);               // how soon a change is seen
constexpr int kMostRequests = 10000;                     // of one connection
constexpr int kMostWaiting = 1024;                       // connections that nobody has accepted yet
constexpr int64_t kMostBytes = 64 << 20;                 // of all requests that are read or answered
constexpr size_t kMostHeadBytes = 64 << 10;              // of a request, before its body

bool Ready(int socket, short events, Clock::time_point until) {
  for (;;) {
    const auto left = std::chrono::ceil<milliseconds>(until - Clock::now()).count();
    pollfd entry{socket, events, 0};
    const int ready = poll(&entry, 1, static_cast<int>(std::clamp<int64_t>(left, 0, 60000)));
    if (ready > 0) return (entry.revents & (events | POLLHUP | POLLERR)) != 0;
    if (ready == 0 && Clock::now() >= until) return false;
    if (ready < 0 && errno != EINTR) return false;
  }
}

class AppConnection : public httplib::Stream {
 public:
  AppConnection(int socket, const std::atomic<bool>* given_up, std::atomic<int64_t>* bytes)
      : socket_(socket), given_up_(given_up), bytes_of_all_(bytes) {}
  ~AppConnection() override { EndRequest(); }

  // A request comes now, or within the slice.
  bool Begins(milliseconds slice) const { return begin_ < end_ || Ready(socket_, POLLIN, Clock::now() + slice); }
  void BeginRequest() {
    read_until_ = Clock::now() + kRequestTime;
    head_left_ = kMostHeadBytes;
    EndRequest();
  }
  void EndRequest() { *bytes_of_all_ -= std::exchange(bytes_, 0); }
  void HeadIsRead() { head_left_.reset(); }
  bool Gone() const {
    if (*given_up_) return true;
    pollfd entry{socket_, POLLRDHUP, 0};
    return poll(&entry, 1, 0) > 0 && (entry.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }

  bool close_after = false;

  bool is_readable() const override { return begin_ < end_ || Ready(socket_, POLLIN, read_until_); }
  bool is_writable() const override { return !Gone() && Ready(socket_, POLLOUT, Clock::now() + kWriteTime); }
  ssize_t read(char* to, size_t size) override {
    if (begin_ == end_) {
      if (!Ready(socket_, POLLIN, read_until_)) return -1;
      const ssize_t got = recv(socket_, buffer_, sizeof(buffer_), 0);
      if (got <= 0) return got;
      bytes_ += got;
      if ((*bytes_of_all_ += got) > kMostBytes) return -1;
      begin_ = 0, end_ = static_cast<size_t>(got);
    }
    if (head_left_ == 0) return -1;
    const size_t taken = std::min({size, end_ - begin_, head_left_.value_or(size)});
    if (head_left_) *head_left_ -= taken;
    std::memcpy(to, buffer_ + begin_, taken);
    begin_ += taken;
    return static_cast<ssize_t>(taken);
  }
  ssize_t write(const char* from, size_t size) override {
    if (!Ready(socket_, POLLOUT, Clock::now() + kWriteTime)) return -1;
    return send(socket_, from, size, MSG_NOSIGNAL);
  }
  void get_remote_ip_and_port(std::string& ip, int& port) const override { Name(&getpeername, ip, port); }
  void get_local_ip_and_port(std::string& ip, int& port) const override { Name(&getsockname, ip, port); }
  socket_t socket() const override { return socket_; }

 private:
  void Name(int (*name_of)(int, sockaddr*, socklen_t*), std::string& ip, int& port) const {
    sockaddr_storage address = {};
    socklen_t size = sizeof(address);
    char host[NI_MAXHOST], service[NI_MAXSERV];
    if (name_of(socket_, reinterpret_cast<sockaddr*>(&address), &size) != 0) return;
    if (getnameinfo(reinterpret_cast<sockaddr*>(&address), size, host, sizeof(host), service, sizeof(service),
                    NI_NUMERICHOST | NI_NUMERICSERV) != 0)
      return;
    ip = host;
    port = std::atoi(service);
  }

  const int socket_;
  const std::atomic<bool>* const given_up_;
  std::atomic<int64_t>* const bytes_of_all_;
  int64_t bytes_ = 0;  // of them, this one's
  Clock::time_point read_until_;
  std::optional<size_t> head_left_;  // while a head is read
  char buffer_[4096];
  size_t begin_ = 0, end_ = 0;
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
    while (!(begins = connection.Begins(kSlice)) && Clock::now() < until && svr_sock_ != INVALID_SOCKET &&
           !threads_->crowded())
      continue;
    if (!begins || given_up_) break;
    connection.BeginRequest();
    if (!process_request(connection, left == 1 || svr_sock_ == INVALID_SOCKET, closed, [&](httplib::Request& request) {
          connection.HeadIsRead();
          request.ranges.clear();  // an answer is whole: httplib would cut it, as often as it is told
        }))
      break;
    connection.EndRequest();
  }
  current_connection = nullptr;
  shutdown(socket, SHUT_WR);
  // A close with something unread is a reset, which may overtake the answer.
  char rest[4096];
  const auto until = Clock::now() + std::chrono::seconds(1);
  while (connection.close_after && Ready(socket, POLLIN, until) && recv(socket, rest, sizeof(rest), 0) > 0) continue;
  close(socket);
  return true;
}

}  // namespace goad::device
