#include "client_sdk/src/stream_connection.h"

#include <grpcpp/grpcpp.h>

#include <algorithm>
#include <deque>
#include <map>
#include <mutex>
#include <optional>

#include "absl/strings/str_cat.h"
#include "client_sdk/src/tls_files.h"
#include "client_sdk/src/wire.h"
#include "goad/v1/offload.grpc.pb.h"

namespace goad::internal {
namespace {

// Keeps itself alive until OnDone. The hold covers writes from other threads; it is given up once, when reading ends.
class GrpcStream final : public grpc::ClientBidiReactor<v1::DeviceFrame, v1::ServerFrame>,
                         public StreamConnection,
                         public std::enable_shared_from_this<GrpcStream> {
 public:
  GrpcStream(std::shared_ptr<grpc::Channel> channel, const std::string& token, Reports reports)
      : stub_(v1::Offload::NewStub(channel)), reports_(std::move(reports)) {
    if (!token.empty()) context_.AddMetadata("authorization", absl::StrCat("Bearer ", token));
  }

  void Begin() {
    self_ = shared_from_this();
    stub_->async()->Session(&context_, this);
    AddHold();
    StartRead(&in_);
    StartCall();
  }

  void Write(v1::DeviceFrame frame) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      if (over_) return;
      out_.push_back(std::move(frame));
      if (writing_) return;
      writing_ = true;
      AddHold();  // the stream may end before the next line; while it is not over_, Begin's hold is there to add to
    }
    StartWrite(&out_.front());  // nobody pops while writing_
    RemoveHold();
  }
  void Close() override { context_.TryCancel(); }

  void OnWriteDone(bool ok) override {
    {
      std::lock_guard<std::mutex> lock(mutex_);
      out_.pop_front();
      writing_ = ok && !over_ && !out_.empty();
      if (!writing_) return;
    }
    StartWrite(&out_.front());
  }
  void OnReadDone(bool ok) override {
    if (!ok) {
      {
        std::lock_guard<std::mutex> lock(mutex_);
        over_ = true;
      }
      return RemoveHold();
    }
    reports_.on_frame(std::move(in_), [self = shared_from_this()] { self->StartRead(&self->in_); });
  }
  void OnDone(const grpc::Status& status) override {
    v1::Error error;  // goad's own, with a time
    const auto& trailers = context_.GetServerTrailingMetadata();
    if (const auto at = trailers.find("goad-error-bin"); at != trailers.end()) {
      error.ParseFromArray(at->second.data(), static_cast<int>(at->second.size()));
    }
    reports_.on_lost(status.ok()
                         ? "closed by goad"
                         : absl::StrCat(status.error_message(), " (", static_cast<int>(status.error_code()), ")"),
                     ReadRetryAfter(error.retry_after_s()));
    self_.reset();
  }

 private:
  const std::unique_ptr<v1::Offload::Stub> stub_;
  const Reports reports_;
  grpc::ClientContext context_;
  v1::ServerFrame in_;
  std::mutex mutex_;
  std::deque<v1::DeviceFrame> out_;  // guarded by mutex_, as the next two; a deque keeps its front in place
  bool writing_ = false;
  bool over_ = false;
  std::shared_ptr<GrpcStream> self_;
};

// gRPC takes the threads of its callbacks down with the last channel and up again with the next; when these meet, 1.51
// aborts the process (an assertion in its completion queue). A channel that never connects and never ends keeps them.
std::shared_ptr<grpc::Channel> KeepCallbackThreads() {
  static const std::shared_ptr<grpc::Channel>* const kept = [] {
    auto* channel =
        new std::shared_ptr<grpc::Channel>(grpc::CreateChannel("unix:/nowhere", grpc::InsecureChannelCredentials()));
    const StreamConnection::Reports nobody = {
        [](v1::ServerFrame, const std::function<void()>& read_next) { read_next(); },
        [](const std::string&, absl::Duration) {}};
    const auto stream = std::make_shared<GrpcStream>(*channel, "", nobody);
    stream->Close();  // before it begins: only a call makes the channel take the threads
    stream->Begin();
    return channel;
  }();
  return *kept;
}

class GrpcOpener final : public StreamOpener {
 public:
  GrpcOpener(const ClientOptions& options, const std::optional<TlsFiles>& tls) : token_(options.token) {
    grpc::ChannelArguments& arguments = arguments_;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
    arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
    const int first_ms = static_cast<int>(absl::ToInt64Milliseconds(options.backoff_first));
    arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, first_ms);
    arguments.SetInt(GRPC_ARG_MIN_RECONNECT_BACKOFF_MS, std::max(first_ms, kLeastConnectTimeMs));
    arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS,
                     static_cast<int>(absl::ToInt64Milliseconds(options.backoff_most)));
    credentials_ = grpc::InsecureChannelCredentials();
    if (tls) credentials_ = grpc::SslCredentials({tls->root_ca, tls->key, tls->certificate});
  }
  std::shared_ptr<StreamConnection> Open(const std::string& address, StreamConnection::Reports reports) override {
    if (channels_.size() >= kMostChannels && channels_.count(address) == 0) DropUnused();
    std::shared_ptr<grpc::Channel>& channel = channels_[address];
    if (channel == nullptr) channel = grpc::CreateCustomChannel(address, credentials_, arguments_);
    auto stream = std::make_shared<GrpcStream>(channel, token_, std::move(reports));
    stream->Begin();
    return stream;
  }

 private:
  // gRPC gives a connection attempt no longer than that at first: three round trips of 300 ms, for TCP and TLS.
  static constexpr int kLeastConnectTimeMs = 1000;
  static constexpr size_t kMostChannels = 20;  // the options' addresses, and a few that goad named
  void DropUnused() {
    for (auto channel = channels_.begin(); channel != channels_.end();) {
      channel = channel->second.use_count() == 1 ? channels_.erase(channel) : std::next(channel);
    }
  }

  const std::string token_;
  const std::shared_ptr<grpc::Channel> callback_threads_ = KeepCallbackThreads();
  grpc::ChannelArguments arguments_;
  std::shared_ptr<grpc::ChannelCredentials> credentials_;
  std::map<std::string, std::shared_ptr<grpc::Channel>> channels_;  // by address
};

}  // namespace

absl::StatusOr<std::unique_ptr<StreamOpener>> MakeGrpcOpener(const ClientOptions& options) {
  std::optional<TlsFiles> tls;
  if (!options.root_ca_file.empty()) {
    auto files = ReadTlsFiles(options.root_ca_file, options.certificate_file, options.key_file);
    if (!files.ok()) return files.status();
    tls = *std::move(files);
  }
  return std::make_unique<GrpcOpener>(options, tls);
}

}  // namespace goad::internal
