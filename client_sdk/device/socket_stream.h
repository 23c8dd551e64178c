// A socket as cpp-httplib wants its streams, with the bounds that its own has none of: a time by which what is read
// must have come, however it trickles, and a number of bytes for a head.
#ifndef GOAD_CLIENT_SDK_DEVICE_SOCKET_STREAM_H_
#define GOAD_CLIENT_SDK_DEVICE_SOCKET_STREAM_H_

#include <httplib.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>

namespace goad::device {

// Thread-compatible. Does not own the socket.
class SocketStream : public httplib::Stream {
 public:
  using Clock = std::chrono::steady_clock;
  static constexpr size_t kMostHeadBytes = 64 << 10;

  // `write_time`: that the peer may take nothing.
  SocketStream(int socket, std::chrono::milliseconds write_time) : socket_(socket), write_time_(write_time) {}

  void BeginHead() { head_left_ = kMostHeadBytes; }
  void HeadIsRead() { head_left_.reset(); }
  void ReadUntil(Clock::time_point until) { read_until_ = until; }
  // Something can be read now, or within the slice.
  bool Readable(std::chrono::milliseconds slice) const;

  bool is_readable() const override;
  bool is_writable() const override;
  ssize_t read(char* to, size_t size) override;
  ssize_t write(const char* from, size_t size) override;
  void get_remote_ip_and_port(std::string& ip, int& port) const override;
  void get_local_ip_and_port(std::string& ip, int& port) const override;
  socket_t socket() const override { return socket_; }

  // Waits for one of the poll(2) events, an error among them.
  static bool Ready(int socket, short events, Clock::time_point until);

 protected:
  // So many bytes have come. False: no more is read.
  virtual bool Count(int64_t /*bytes*/) { return true; }

 private:
  const int socket_;
  const std::chrono::milliseconds write_time_;
  Clock::time_point read_until_;
  std::optional<size_t> head_left_;  // while a head is read
  char buffer_[4096];
  size_t begin_ = 0, end_ = 0;
};

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_SOCKET_STREAM_H_
