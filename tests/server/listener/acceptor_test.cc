#include "server/listener/acceptor.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <set>

#include "gtest/gtest.h"
#include "server/listener/port_watch.h"

namespace goad::server {
namespace {

class AcceptorTest : public testing::Test {
 protected:
  ~AcceptorTest() override {
    acceptor_.reset();
    MutexLock lock(mutex_);
    for (const int fd : taken_) close(fd);
    for (const int fd : clients_) close(fd);
  }
  void Bind(const std::string& address, const ListenerLimits& limits = {}) {
    auto acceptor =
        Acceptor::Bind("listen.address", address, limits, metrics_.Listener("devices", ConnectionRefusals(), true));
    ASSERT_TRUE(acceptor.ok()) << acceptor.status();
    acceptor_ = std::move(*acceptor);
  }
  // As the library that speaks on connections: keeps the descriptor.
  void Start() {
    acceptor_->Start([this](int fd) {
      MutexLock lock(mutex_);
      taken_.insert(fd);
    });
  }
  size_t taken() {
    MutexLock lock(mutex_);
    return taken_.size();
  }
  int Socket() {
    clients_.push_back(socket(AF_INET, SOCK_STREAM, 0));
    return clients_.back();
  }
  bool Connect(int fd) {
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    to.sin_port = htons(static_cast<uint16_t>(acceptor_->port()));
    return connect(fd, reinterpret_cast<sockaddr*>(&to), sizeof to) == 0;
  }
  static bool Ended(int fd, int within_ms) {
    pollfd waiting{fd, POLLIN, 0};
    char byte = 0;
    return poll(&waiting, 1, within_ms) == 1 && recv(fd, &byte, 1, 0) <= 0;
  }
  static void WaitUntil(const std::function<bool()>& condition) {
    const MonotonicTime until = MonotonicTime::Now() + absl::Seconds(20);
    while (!condition()) {
      ASSERT_LT(MonotonicTime::Now(), until);
      std::this_thread::yield();
    }
  }

  Metrics metrics_{{{}, {}}};
  std::unique_ptr<Acceptor> acceptor_;
  Mutex mutex_;
  std::set<int> taken_;
  std::vector<int> clients_;
};

TEST_F(AcceptorTest, ASilentConnectionIsEndedAndAWelcomeOneIsNot) {
  Bind("127.0.0.1:0", {.hello = absl::Milliseconds(200)});
  Start();
  const int silent = Socket(), device = Socket();
  ASSERT_TRUE(Connect(silent));
  ASSERT_TRUE(Connect(device));
  WaitUntil([&] { return acceptor_->table().size() == 2; });
  sockaddr_in from{};
  socklen_t size = sizeof from;
  getsockname(device, reinterpret_cast<sockaddr*>(&from), &size);
  const auto connection = acceptor_->table().Find("ipv4:127.0.0.1:" + std::to_string(ntohs(from.sin_port)));
  ASSERT_NE(connection, nullptr);
  connection->Welcomed();
  EXPECT_TRUE(Ended(silent, 20000));
  EXPECT_FALSE(Ended(device, 300));
  EXPECT_FALSE(connection->shut());
}

TEST_F(AcceptorTest, WithoutDescriptorsItWaitsAndThenGoesOn) {
  Bind("127.0.0.1:0");
  Start();
  std::vector<int> clients;
  for (int k = 0; k < 10; ++k) clients.push_back(Socket());
  rlimit before{};
  getrlimit(RLIMIT_NOFILE, &before);
  rlimit none = before;
  none.rlim_cur = static_cast<rlim_t>(clients.back()) + 1;  // not one more than what is open
  setrlimit(RLIMIT_NOFILE, &none);
  for (const int fd : clients) EXPECT_TRUE(Connect(fd));  // by the kernel
  EXPECT_FALSE(Ended(clients[0], 300));
  EXPECT_EQ(taken(), 0u);
  setrlimit(RLIMIT_NOFILE, &before);
  WaitUntil([&] { return taken() == clients.size(); });
}

TEST_F(AcceptorTest, MoreThanAnAddressMayHaveAreClosedAtOnce) {
  Bind("127.0.0.1:0", {.connections = 100, .connections_per_address = 10});
  Start();
  for (int k = 0; k < 30; ++k) ASSERT_TRUE(Connect(Socket()));
  int ended = 0;
  WaitUntil([&] {
    ended = 0;
    for (const int fd : clients_) ended += Ended(fd, 0);
    return ended == 20;
  });
  EXPECT_EQ(taken(), 10u);
}

TEST_F(AcceptorTest, APortInUseIsAnErrorThatNamesIt) {
  Bind("127.0.0.1:0");
  const std::string address = "127.0.0.1:" + std::to_string(acceptor_->port());
  const auto second =
      Acceptor::Bind("listen.address", address, {}, metrics_.Listener("devices", ConnectionRefusals(), true));
  ASSERT_FALSE(second.ok());
  EXPECT_NE(second.status().message().find("listen.address: " + address + ": cannot be bound (in use"),
            std::string::npos)
      << second.status();
  for (const char* bad : {"", "127.0.0.1", "127.0.0.1:x", "no.such.host.invalid:1", "unix:", "[::1:7"}) {
    EXPECT_FALSE(
        Acceptor::Bind("listen.address", bad, {}, metrics_.Listener("devices", ConnectionRefusals(), true)).ok())
        << bad;
  }
}

TEST_F(AcceptorTest, AUnixSocketIsForItsGroupAndALeftoverIsReplaced) {
  const std::string path = testing::TempDir() + "goad-acceptor-" + std::to_string(getpid()) + ".sock";
  sockaddr_un name{};
  name.sun_family = AF_UNIX;
  path.copy(name.sun_path, sizeof name.sun_path - 1);
  const int left = socket(AF_UNIX, SOCK_STREAM, 0);  // of one that was killed
  ASSERT_EQ(bind(left, reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  close(left);
  Bind("unix:" + path);
  Start();
  struct stat there {};
  ASSERT_EQ(stat(path.c_str(), &there), 0);
  EXPECT_EQ(there.st_mode & 0777, 0660u);
  EXPECT_FALSE(
      Acceptor::Bind("admin.address", "unix:" + path, {}, metrics_.Listener("admin", ConnectionRefusals(), true))
          .ok());  // it answers
  clients_.push_back(socket(AF_UNIX, SOCK_STREAM, 0));
  ASSERT_EQ(connect(clients_.back(), reinterpret_cast<sockaddr*>(&name), sizeof name), 0);
  WaitUntil([&] { return taken() >= 1; });
  acceptor_.reset();
  EXPECT_NE(stat(path.c_str(), &there), 0);
}

TEST_F(AcceptorTest, APortThatAcceptsNobodyIsDeafAndOneThatSpeaksIsNot) {
  Bind("127.0.0.1:0");
  std::atomic<int> deaf{0};
  const ListenerMetrics metrics = metrics_.Listener("devices", ConnectionRefusals(), true);
  {
    PortWatch watch(
        acceptor_.get(), /*tls=*/false, metrics, [&] { ++deaf; }, absl::Milliseconds(1), absl::Milliseconds(20));
    WaitUntil([&] { return watch.deaf(); });
  }
  EXPECT_EQ(deaf, 1);
  acceptor_->Start([this](int fd) {
    MutexLock lock(mutex_);
    taken_.insert(fd);
    send(fd, "x", 1, MSG_NOSIGNAL);  // as HTTP/2 says its SETTINGS
  });
  WaitUntil([&] { return taken() >= 3; });  // what knocked while it was deaf
  const size_t open = acceptor_->table().size();
  EXPECT_TRUE(acceptor_->KnockFromOutside(/*tls=*/false, absl::Seconds(20)).ok());
  EXPECT_LE(acceptor_->table().size(), open);  // our own look is no connection
}

}  // namespace
}  // namespace goad::server
