#include "server/listener/connection_table.h"

#include <algorithm>
#include <map>

#include "gtest/gtest.h"

namespace goad::server {
namespace {

TEST(PeerKey, IsTheSameHoweverAnAddressIsWritten) {
  EXPECT_EQ(PeerKey("ipv6:%5B2001:db8::1%5D:443"), PeerKey("ipv6:[2001:0db8:0:0::1]:443"));
  EXPECT_EQ(PeerKey("ipv4:192.0.2.7:443"), PeerKey("ipv6:[::ffff:192.0.2.7]:443"));
  EXPECT_NE(PeerKey("ipv4:192.0.2.7:443"), PeerKey("ipv4:192.0.2.7:444"));
  for (const char* none : {"", "unix:", "unix:/run/x", "ipv4:", "ipv4:1.2.3:4", "ipv6:::1:4", "ipv6:[", "vsock:3"}) {
    EXPECT_EQ(PeerKey(none), "") << none;
    EXPECT_EQ(AddressOfPeer(none), "") << none;
  }
  EXPECT_EQ(AddressOfPeer("ipv6:[2001:db8:1:2:3:4:5:6]:443"), "2001:db8:1:2::/64");  // what one customer has
  EXPECT_EQ(AddressOfPeer("ipv6:[::ffff:192.0.2.7]:443"), "192.0.2.7");
}

class ConnectionTableTest : public testing::Test {
 protected:
  // As the acceptor does; null when refused.
  std::shared_ptr<Connection> Come(const std::string& address) {
    last_ = table_.Admit(address, now_);
    if (last_) return nullptr;
    auto connection = std::make_shared<Connection>(-1, address, now_);
    table_.Add(PeerKey("ipv4:192.0.2.1:" + std::to_string(++port_)), connection);
    return connection;
  }
  void Look() {
    table_.Look(now_, memory_short_, [this](const Connection& c) { return counters_[&c]; });
  }
  // So often that everybody was looked at.
  void LookAtAll() {
    for (int k = 0; k < 100; ++k) Look();
  }

  ListenerLimits limits_{.connections = 100, .connections_per_address = 40, .streams_per_connection = 10};
  ConnectionTable table_{limits_};
  MonotonicTime now_ = MonotonicTime::FromOrigin(absl::Seconds(100));
  std::map<const Connection*, TcpCounters> counters_;
  std::optional<ConnectionRefusal> last_;
  bool memory_short_ = false;
  int port_ = 0;
};

TEST_F(ConnectionTableTest, WhileMemoryIsShortNobodyComesAndWhoSentMostForNothingGoes) {
  const auto device = Come("10.0.0.1"), uploading = Come("10.0.0.2"), stranger = Come("10.0.0.3"),
             flood = Come("10.0.0.4");
  for (const auto& known : {device, uploading, flood}) {
    known->NewCall(10, now_);
    known->Welcomed();
  }
  counters_[device.get()].bytes_received = 2 << 10;
  counters_[uploading.get()].bytes_received = 100 << 10;
  counters_[stranger.get()].bytes_received = 20 << 10;
  counters_[flood.get()].bytes_received = 200 << 10;
  Look();
  for (const auto& connection : {device, uploading, stranger, flood}) EXPECT_EQ(connection->shut(), std::nullopt);
  memory_short_ = true;
  LookAtAll();
  EXPECT_EQ(device->shut(), std::nullopt);
  EXPECT_EQ(uploading->shut(), std::nullopt);
  EXPECT_EQ(stranger->shut(), ConnectionRefusal::kMemory);
  EXPECT_EQ(flood->shut(), ConnectionRefusal::kMemory);
  EXPECT_EQ(Come("10.0.0.5"), nullptr);
  EXPECT_EQ(last_, ConnectionRefusal::kMemory);
  memory_short_ = false;
  Look();
  EXPECT_NE(Come("10.0.0.5"), nullptr);
}

TEST_F(ConnectionTableTest, OneAddressCannotTakeThePlaceOfTheOthers) {
  std::vector<std::shared_ptr<Connection>> flood;
  while (auto connection = Come("10.0.0.1")) flood.push_back(connection);
  EXPECT_EQ(last_, ConnectionRefusal::kStrangers);
  EXPECT_EQ(flood.size(), 16u);
  for (const auto& connection : flood) connection->Welcomed();
  Look();
  while (auto connection = Come("10.0.0.1")) {
    connection->Welcomed();
    flood.push_back(connection);
    Look();
  }
  EXPECT_EQ(last_, ConnectionRefusal::kConnectionsPerAddress);
  EXPECT_EQ(flood.size(), 40u);
  EXPECT_NE(Come("10.0.0.2"), nullptr);
}

TEST_F(ConnectionTableTest, AnAddressThatComesAndGoesIsSlowedDown) {
  const auto come_and_go = [&](bool welcome) {
    int came = 0;
    for (int k = 0; k < 1000; ++k) {
      const auto connection = Come("10.0.0.1");
      if (connection == nullptr) continue;
      ++came;
      if (welcome) connection->Welcomed();
      table_.Remove(connection.get(), now_);
    }
    return came;
  };
  EXPECT_EQ(come_and_go(true), 40);  // a whole fleet at once
  now_ = now_ + absl::Seconds(1);
  EXPECT_EQ(come_and_go(true), 4);  // and a tenth of it a second
  now_ = now_ + absl::Seconds(10);
  EXPECT_EQ(come_and_go(false), 4);  // who breaks off before a Hello costs ten
  now_ = now_ + absl::Seconds(10);
  EXPECT_EQ(come_and_go(true), 40);  // and is forgiven
  EXPECT_EQ(table_.size(), 0u);
}

TEST_F(ConnectionTableTest, BeforeItsFirstCallAConnectionHasLittleToSend) {
  const auto bomb = Come("10.0.0.1"), device = Come("10.0.0.1");
  EXPECT_TRUE(device->NewCall(10, now_));
  for (const auto& c : {bomb, device}) counters_[c.get()].bytes_received = 1 << 20;
  LookAtAll();
  EXPECT_EQ(bomb->shut(), ConnectionRefusal::kByteRate);
  EXPECT_FALSE(device->shut());
}

TEST_F(ConnectionTableTest, WhoSaysNoHelloIsShutAndWhoDoesStays) {
  const auto silent = Come("10.0.0.1"), device = Come("10.0.0.1");
  device->Welcomed();
  now_ = now_ + absl::Milliseconds(4999);
  LookAtAll();
  EXPECT_FALSE(silent->shut());
  now_ = now_ + absl::Milliseconds(2);
  LookAtAll();
  EXPECT_EQ(silent->shut(), ConnectionRefusal::kNoHello);
  EXPECT_FALSE(device->shut());
}

TEST_F(ConnectionTableTest, BytesThatAreNoFramesAreBoundedAndFramesAreNot) {
  const auto flood = Come("10.0.0.1"), device = Come("10.0.0.1");
  for (const auto& c : {flood, device}) {
    c->NewCall(10, now_);
    c->Welcomed();
  }
  for (int second = 0; second < 60; ++second) {  // one MiB a second each; the device's are questions
    for (const auto& c : {flood, device}) counters_[c.get()].bytes_received += 1 << 20;
    device->Took(1 << 20);
    now_ = now_ + absl::Seconds(1);
    LookAtAll();
  }
  EXPECT_EQ(flood->shut(), ConnectionRefusal::kByteRate);
  EXPECT_FALSE(device->shut());
}

TEST_F(ConnectionTableTest, ADayOfSilenceEarnsNoFlood) {
  const auto connection = Come("10.0.0.1");
  connection->Welcomed();
  LookAtAll();
  now_ = now_ + absl::Hours(24);
  LookAtAll();
  counters_[connection.get()].bytes_received += 64 << 20;
  now_ = now_ + absl::Seconds(1);
  LookAtAll();
  EXPECT_EQ(connection->shut(), ConnectionRefusal::kByteRate);
}

TEST_F(ConnectionTableTest, SmallSegmentsAreBounded) {
  const auto connection = Come("10.0.0.1");
  connection->Welcomed();
  for (int k = 0; k < 100; ++k) {
    counters_[connection.get()].data_segments_in += 300;  // 3,000 a second, where 10 streams may send 1,000
    now_ = now_ + absl::Milliseconds(100);
    LookAtAll();
  }
  EXPECT_EQ(connection->shut(), ConnectionRefusal::kByteRate);
}

TEST_F(ConnectionTableTest, NewCallsAreBounded) {
  const auto connection = Come("10.0.0.1");
  for (int k = 0; k < 20; ++k) ASSERT_TRUE(connection->NewCall(10, now_)) << k;
  EXPECT_FALSE(connection->NewCall(10, now_));
  EXPECT_EQ(connection->shut(), ConnectionRefusal::kCallRate);
}

TEST_F(ConnectionTableTest, WhoReadsNothingIsShut) {
  const auto stuck = Come("10.0.0.1"), slow = Come("10.0.0.1");
  for (const auto& c : {stuck, slow}) {
    c->Welcomed();
    counters_[c.get()].unsent_bytes = 1000;
  }
  for (int second = 0; second < 11; ++second) {
    ++counters_[slow.get()].bytes_acked;
    now_ = now_ + absl::Seconds(1);
    LookAtAll();
  }
  EXPECT_EQ(stuck->shut(), ConnectionRefusal::kUnread);
  EXPECT_FALSE(slow->shut());
}

TEST_F(ConnectionTableTest, OnlySoManyBeginAtOnceAndFewerAfterOneWasCutOff) {
  limits_.connections = limits_.connections_per_address = 1000;
  table_.SetLimits(limits_);
  std::vector<std::shared_ptr<Connection>> begin;
  while (!table_.EnoughBegin(now_)) begin.push_back(Come("10.0.0." + std::to_string(begin.size())));
  EXPECT_EQ(begin.size(), 64u);
  begin[0]->Welcomed();
  EXPECT_FALSE(table_.EnoughBegin(now_)) << "one is through";
  now_ = now_ + absl::Milliseconds(101);
  EXPECT_FALSE(table_.EnoughBegin(now_)) << "the rest is silence";
  counters_[begin[1].get()].bytes_received = 400 << 10;
  Look();
  EXPECT_EQ(begin[1]->shut(), ConnectionRefusal::kByteRate);
  size_t more = 0;
  for (; !table_.EnoughBegin(now_); ++more) begin.push_back(Come("10.0.1." + std::to_string(more)));
  EXPECT_EQ(more, 8u);
  now_ = now_ + absl::Seconds(6);
  EXPECT_FALSE(table_.EnoughBegin(now_));
}

TEST_F(ConnectionTableTest, WhoIsCutOffForWhatItSentUsesUpWhatMayComeOfItsAddress) {
  limits_.connections = limits_.connections_per_address = 1000;
  table_.SetLimits(limits_);
  int came = 0;
  while (const auto connection = Come("10.0.0.1")) {
    ++came;
    counters_[connection.get()].bytes_received = 400 << 10;
    Look();
    table_.Remove(connection.get(), now_);
  }
  EXPECT_LE(came, 21);
  EXPECT_EQ(last_, ConnectionRefusal::kConnectionsPerAddress);
  EXPECT_NE(Come("10.0.0.2"), nullptr);
}

TEST_F(ConnectionTableTest, AllStrangersTogetherHaveSoManyBytesAndThoseThatSentMostGo) {
  limits_.connections = limits_.connections_per_address = 1000;
  table_.SetLimits(limits_);
  std::vector<std::shared_ptr<Connection>> strangers;
  for (int k = 0; k < 100; ++k) {
    strangers.push_back(Come("10.0.0." + std::to_string(k)));
    counters_[strangers.back().get()].bytes_received = static_cast<uint64_t>((k < 20 ? 4 : k) << 10);
  }
  Look();
  const auto shut = [&] {
    return std::count_if(strangers.begin(), strangers.end(),
                         [](const auto& stranger) { return stranger->shut() == ConnectionRefusal::kByteRate; });
  };
  const auto at_first = shut();
  EXPECT_GT(at_first, 10);
  EXPECT_LT(at_first, 60);
  EXPECT_NE(strangers[99]->shut(), std::nullopt) << "it sent most";
  Look();  // now we are wary
  EXPECT_GT(shut(), at_first);
  for (int k = 0; k < 20; ++k) EXPECT_EQ(strangers[static_cast<size_t>(k)]->shut(), std::nullopt);
}

TEST(ConnectionRefusals, AreTheWordsOfTheMetric) {
  const std::vector<std::string> words = {"CONNECTIONS", "CONNECTIONS_PER_ADDRESS",
                                          "STRANGERS",   "DESCRIPTORS",
                                          "NO_HELLO",    "CALL_RATE",
                                          "BYTE_RATE",   "UNREAD",
                                          "MEMORY"};
  EXPECT_EQ(ConnectionRefusals(), words);
  for (size_t k = 0; k < words.size(); ++k) EXPECT_EQ(ToString(static_cast<ConnectionRefusal>(k)), words[k]);
}

TEST_F(ConnectionTableTest, FindsAConnectionByItsPeersName) {
  const auto connection = Come("192.0.2.1");
  EXPECT_EQ(table_.Find("ipv4:192.0.2.1:1"), connection);
  EXPECT_EQ(table_.Find("ipv4:192.0.2.1:2"), nullptr);
  EXPECT_EQ(table_.Find("unix:"), nullptr);
  table_.Remove(connection.get(), now_);
  EXPECT_EQ(table_.Find("ipv4:192.0.2.1:1"), nullptr);
}

}  // namespace
}  // namespace goad::server
