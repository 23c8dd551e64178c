#include "server/listener/grpc_listener.h"

#include <grpcpp/ext/channelz_service_plugin.h>
#include <grpcpp/ext/proto_server_reflection_plugin.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/health_check_service_interface.h>
#include <grpcpp/resource_quota.h>
#include <grpcpp/support/server_interceptor.h>

#include <atomic>
#include <cstring>
#include <mutex>

namespace goad::server {
namespace {

constexpr int kHealthWatches = 64;  // streams of grpc.health.v1.Health.Watch at once, on a listener

// Of one call. Devices send six, tracing and proxies add some. gRPC's own bound (8 KiB of headers) is for peers that
// have acknowledged it; the others are held to 16 MiB, and an indexed header is one byte on the wire and some 250 in
// memory.
constexpr size_t kHeaders = 64;

// Looks at each call before its service does: counts it and its headers for its connection, and bounds health watches.
class CallGate final : public grpc::experimental::ServerInterceptorFactoryInterface {
 public:
  explicit CallGate(ConnectionTable* table) : table_(table) {}

  grpc::experimental::Interceptor* CreateServerInterceptor(grpc::experimental::ServerRpcInfo* info) override {
    const auto connection = table_->Find(info->server_context()->peer());  // unknown once the call is cancelled
    bool refused = false;
    if (info->server_context()->client_metadata().size() > kHeaders) {
      refused = true;
      if (connection != nullptr) connection->Shut(ConnectionRefusal::kByteRate);
    }
    if (connection != nullptr && !connection->NewCall(table_->limits().streams_per_connection, MonotonicTime::Now()))
      refused = true;
    if (refused) info->server_context()->TryCancel();
    if (std::strcmp(info->method(), "/grpc.health.v1.Health/Watch") != 0) return nullptr;
    if (watches_.fetch_add(1) >= kHealthWatches) info->server_context()->TryCancel();
    return new Watch(&watches_);
  }

 private:
  class Watch final : public grpc::experimental::Interceptor {  // owned by gRPC: as long as the call
   public:
    explicit Watch(std::atomic<int>* watches) : watches_(watches) {}
    ~Watch() override { watches_->fetch_sub(1); }
    void Intercept(grpc::experimental::InterceptorBatchMethods* methods) override { methods->Proceed(); }

   private:
    std::atomic<int>* const watches_;
  };

  ConnectionTable* const table_;  // not owned
  std::atomic<int> watches_{0};
};

// UNIMPLEMENTED, as without it, but through the gate.
class UnknownMethods final : public grpc::CallbackGenericService {};

// Reflection and channelz are plugins of every server that is built from then on; this leaves them out again.
class NoPlugins final : public grpc::ServerBuilderOption {
 public:
  void UpdateArguments(grpc::ChannelArguments*) override {}
  void UpdatePlugins(std::vector<std::unique_ptr<grpc::ServerBuilderPlugin>>* plugins) override { plugins->clear(); }
};

}  // namespace

absl::StatusOr<std::unique_ptr<GrpcListener>> GrpcListener::Listen(GrpcListenerOptions options) {
  static std::once_flag plugins;
  std::call_once(plugins, [] {
    grpc::EnableDefaultHealthCheckService(true);
    grpc::reflection::InitProtoReflectionServerBuilderPlugin();
    grpc::channelz::experimental::InitChannelzService();
  });
  auto acceptor = Acceptor::Bind(options.field, options.address, options.limits, options.metrics);
  if (!acceptor.ok()) return acceptor.status();
  grpc::ServerBuilder builder;
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, 10000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, 5000);
  builder.AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder.AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, 5000);
  builder.AddChannelArgument("grpc.server_handshake_timeout_ms", 5000);
  // What is read at once is parsed to its end, whatever becomes of the connection meanwhile.
  builder.AddChannelArgument("grpc.experimental.tcp_max_read_chunk_size", 16 << 10);
  builder.AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, options.limits.streams_per_connection);
  if (options.max_age != absl::InfiniteDuration()) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_AGE_MS,
                               static_cast<int>(absl::ToInt64Milliseconds(options.max_age)));
  }
  // No compression: a message of 1 MB may unpack to a thousand. A call that announces one is UNIMPLEMENTED before its
  // first message.
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_DECOMPRESSION, 0);
  builder.AddChannelArgument(GRPC_ARG_ENABLE_PER_MESSAGE_COMPRESSION, 0);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder.SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  builder.SetMaxReceiveMessageSize(kMaxFrameBytes);
  grpc::ResourceQuota quota(options.field);
  quota.Resize(2 * static_cast<size_t>(options.memory_bytes));  // memory_short acts before it, and knows whom to end
  quota.SetMaxThreads(32);
  builder.SetResourceQuota(quota);
  if (!options.introspection) builder.SetOption(std::make_unique<NoPlugins>());
  if (options.idle != absl::InfiniteDuration()) {
    builder.AddChannelArgument(GRPC_ARG_MAX_CONNECTION_IDLE_MS,
                               static_cast<int>(absl::ToInt64Milliseconds(options.idle)));
  }
  auto unknown = std::make_shared<UnknownMethods>();
  builder.RegisterCallbackGenericService(unknown.get());
  std::vector<std::unique_ptr<grpc::experimental::ServerInterceptorFactoryInterface>> gates;
  gates.push_back(std::make_unique<CallGate>(&(*acceptor)->table()));
  builder.experimental().SetInterceptorCreators(std::move(gates));
  for (grpc::Service* service : options.services) builder.RegisterService(service);
  std::shared_ptr<grpc::experimental::ExternalConnectionAcceptor> hand_over =
      builder.experimental().AddExternalConnectionAcceptor(
          grpc::ServerBuilder::experimental_type::ExternalConnectionType::FROM_FD, std::move(options.credentials));
  std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    return absl::FailedPreconditionError(std::string(options.field) + ": " + options.address +
                                         ": gRPC could not start a server");
  }
  const auto take = [hand_over](int fd) {
    grpc::experimental::ExternalConnectionAcceptor::NewConnectionParameters connection;
    connection.fd = fd;
    hand_over->HandleNewConnection(&connection);
  };
  return std::unique_ptr<GrpcListener>(new GrpcListener(std::move(*acceptor), std::move(unknown), std::move(server),
                                                        take, std::move(options.memory_short)));
}

GrpcListener::GrpcListener(std::unique_ptr<Acceptor> acceptor, std::shared_ptr<void> unknown_methods,
                           std::unique_ptr<grpc::Server> server, std::function<void(int fd)> hand_over,
                           std::function<bool()> memory_short)
    : acceptor_(std::move(acceptor)),
      unknown_methods_(std::move(unknown_methods)),
      server_(std::move(server)),
      hand_over_(std::move(hand_over)),
      memory_short_(std::move(memory_short)) {}

void GrpcListener::Begin() { acceptor_->Start(hand_over_, memory_short_); }

GrpcListener::~GrpcListener() { Shutdown(absl::ZeroDuration()); }

void GrpcListener::SetServing(const std::string& service, bool serving) {
  server_->GetHealthCheckService()->SetServingStatus(service, serving);
}
void GrpcListener::SetNothingServing() { server_->GetHealthCheckService()->SetServingStatus(false); }

void GrpcListener::Shutdown(absl::Duration grace) {
  if (std::exchange(shut_down_, true)) return;
  acceptor_->Stop();
  server_->Shutdown(std::chrono::system_clock::now() + absl::ToChronoMilliseconds(grace));
  server_->Wait();
}

}  // namespace goad::server
