// Streams carry raw bytes: an undecodable frame then ends its stream with a status that says so, instead of looking
// like a half-close.
//
// Life of a stream: made by the service -> registered -> reads one frame after the other; writes what Outbox::Next
// says, from its own reactions, from End and from the writer thread, which does it for the engine and the dispatcher ->
// Finish, once, when Next says so -> OnDone frees it. OnCancel and a failed write close the outbox, which makes Next
// say Finish.
#include "server/session/offload_service.h"

#include <grpc/grpc_security_constants.h>
#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "goad/v1/offload.grpc.pb.h"
#include "server/base/clip.h"
#include "server/base/line_limit.h"
#include "server/base/reaction.h"
#include "server/config/certificates.h"
#include "server/session/wire_codec.h"
#include "spdlog/spdlog.h"

namespace goad::server {
namespace {

grpc::StatusCode CodeOf(ErrorCode code) {
  switch (code) {
    case ErrorCode::kInvalidArgument: return grpc::StatusCode::INVALID_ARGUMENT;
    case ErrorCode::kFailedPrecondition: return grpc::StatusCode::FAILED_PRECONDITION;
    case ErrorCode::kNotFound: return grpc::StatusCode::NOT_FOUND;
    case ErrorCode::kResourceExhausted: return grpc::StatusCode::RESOURCE_EXHAUSTED;
    case ErrorCode::kUnavailable: return grpc::StatusCode::UNAVAILABLE;
    case ErrorCode::kDeadlineExceeded: return grpc::StatusCode::DEADLINE_EXCEEDED;
    case ErrorCode::kUnauthenticated: return grpc::StatusCode::UNAUTHENTICATED;
    default: return grpc::StatusCode::INTERNAL;
  }
}

// Of a certificate that the handshake verified: its DNS alternative names, or without any alternative name its common
// name (RFC 6125, 6.4.4).
Credentials CredentialsOf(const grpc::CallbackServerContext& context) {
  Credentials credentials;
  const auto auth = context.auth_context();
  if (auth != nullptr && auth->IsPeerAuthenticated()) {
    const bool has_alternatives = !auth->FindPropertyValues(GRPC_X509_SAN_PROPERTY_NAME).empty();
    for (const auto& name :
         auth->FindPropertyValues(has_alternatives ? GRPC_PEER_DNS_PROPERTY_NAME : GRPC_X509_CN_PROPERTY_NAME)) {
      credentials.certificate_names.emplace_back(name.data(), name.size());
    }
  }
  if (auth != nullptr) {
    for (const auto& pem : auth->FindPropertyValues(GRPC_X509_PEM_CERT_PROPERTY_NAME)) {
      credentials.certificate_serial = RevokedName(std::string(pem.data(), pem.size()));
    }
  }
  const auto found = context.client_metadata().find("authorization");
  if (found != context.client_metadata().end()) {
    // Two of them are none: nobody could say which one counts.
    const bool one = context.client_metadata().count("authorization") == 1;
    credentials.token_sha256 = one ? HashBearerToken({found->second.data(), found->second.size()}) : "";
  }
  return credentials;
}

absl::StatusOr<Caller> CallerOf(const grpc::CallbackServerContext& context, const Credentials& credentials,
                                const Config& config) {
  absl::StatusOr<Caller> caller = IdentifyCaller(config, credentials);
  if (caller.ok()) {
    caller->address = AddressOfPeer(context.peer());
    if (caller->address.empty()) caller->address = context.peer();
  }
  const auto trace = context.client_metadata().find("traceparent");
  if (caller.ok() && trace != context.client_metadata().end()) {
    caller->traceparent = ValidTraceparent({trace->second.data(), trace->second.size()});
  }
  return caller;
}

template <typename Message>
bool Parse(const grpc::ByteBuffer& bytes, Message* message) {
  grpc::ByteBuffer copy(bytes);  // Deserialize consumes it; the slices are shared
  return grpc::SerializationTraits<Message>::Deserialize(&copy, message).ok();
}

// What Session and Ask have in common: everything but reading.
template <typename GrpcReactor>
class StreamReactor : public GrpcReactor,
                      public SessionStream,
                      public std::enable_shared_from_this<StreamReactor<GrpcReactor>> {
 public:
  StreamReactor(grpc::CallbackServerContext* context, const OffloadPorts& ports)
      : context_(context),
        ports_(ports),
        session_(std::make_shared<Session>(SessionId{ports.next_session_id->fetch_add(1)}, context->peer(),
                                           ports.session.config->Current()->limits.outbox_bytes, ports.session.metrics,
                                           ports.session.outboxes, MonotonicTime::Now())),
        credentials_(CredentialsOf(*context)),
        caller_(CallerOf(*context, credentials_, *ports.session.config->Current())),
        core_(session_, caller_.ok() ? *caller_ : Caller(), ports.session),
        connection_(ports.connection(session_->peer)) {}

  ErrorInfo Unauthenticated(absl::string_view why) {
    ports_.session.metrics->Refused(Refusal::kUnauthenticated);
    static LineLimit limit;  // of the process: anybody can cause them
    if (const std::optional<int> left_out = limit.Allow(MonotonicTime::Now())) {
      const std::string name = credentials_.certificate_names.empty() ? "" : credentials_.certificate_names[0];
      spdlog::warn("unauthenticated peer={} certificate=\"{}\" cause=\"{}\" lines_left_out={}", Clip(session_->peer),
                   Clip(name), std::string(why), *left_out);
    }
    return MakeError(ErrorCode::kUnauthenticated, Refusal::kUnauthenticated, "authorization", std::string(why));
  }

  // False when the stream is refused; it then finishes by itself.
  bool Register() {
    self_ = this->shared_from_this();
    std::optional<ErrorInfo> error;
    if (caller_.ok()) {
      std::string holder = caller_->identity.empty() ? caller_->address : caller_->identity;
      error = ports_.session.registry->Add(session_, self_, {std::move(holder), caller_->tenant, credentials_},
                                           ports_.session.config->Current()->limits);
      // A reload may have looked at all sessions between our look at the caller and now.
      const auto again = IdentifyCaller(*ports_.session.config->Current(), credentials_);
      if (!error && (!again.ok() || again->tenant != caller_->tenant)) {
        ports_.session.registry->Remove(session_->id);
        error = Unauthenticated("is not known here any more");
      }
    } else {
      error = Unauthenticated(caller_.status().message());
    }
    if (!error) {
      if (connection_ != nullptr) connection_->StreamsBy(1);
      return counted_ = true;
    }
    End(*error);
    return false;
  }

  void End(const ErrorInfo& why) override {
    session_->outbox.Close(why, MonotonicTime::Now());
    core_.OnEnd(MonotonicTime::Now());
    if (why.code == ErrorCode::kSlowConsumer && session_->outbox.HoldOpen()) {
      context_->TryCancel();  // a write that nobody reads is never done: the end would wait behind it
      session_->outbox.LetGo();
    }
    Write();
  }

  void Pump() override {
    if (Write()) return;
    ReadOn();
    Write();  // what came meanwhile
  }

  void OnWriteDone(bool ok) override {
    const Reaction reaction(static_cast<SessionStream*>(this));
    out_.Clear();
    session_->outbox.WriteDone();
    if (!ok) core_.OnEnd(MonotonicTime::Now());
    ReadOn();
    Write();
  }
  void OnCancel() override {
    const Reaction reaction(static_cast<SessionStream*>(this));
    core_.OnEnd(MonotonicTime::Now());
    Write();
  }
  void OnDone() override {
    const Reaction reaction(static_cast<SessionStream*>(this));
    core_.OnEnd(MonotonicTime::Now());
    ports_.session.registry->Remove(session_->id);
    if (counted_ && connection_ != nullptr) connection_->StreamsBy(-1);
    self_.reset();  // the last use of this
  }

 protected:
  // A read that was held back begins.
  virtual void ReadOn() {}

  // Does what the outbox says is next; false when that is nothing.
  bool Write() {
    Outbox::Step step = session_->outbox.Next();
    if (step.resume) ports_.dispatch->Resume(session_->id);
    switch (step.kind) {
      case Outbox::Step::kNothing: return false;
      case Outbox::Step::kWrite: {
        bool own = false;
        grpc::SerializationTraits<v1::ServerFrame>::Serialize(*step.frame, &out_, &own);
        // gRPC may keep what another write follows at once: one segment instead of two.
        this->StartWrite(&out_, step.more ? grpc::WriteOptions().set_buffer_hint() : grpc::WriteOptions());
        break;
      }
      case Outbox::Step::kFinish: this->Finish(MakeStatus(step.error)); break;
    }
    return true;
  }

  grpc::Status MakeStatus(const std::optional<ErrorInfo>& error) {
    if (!error) {
      return context_->IsCancelled() ? grpc::Status(grpc::StatusCode::CANCELLED, "the stream was cancelled")
                                     : grpc::Status::OK;
    }
    context_->AddTrailingMetadata("goad-error-bin", EncodeError(*error).SerializeAsString());
    if (error->retry_after_s > 0) {
      context_->AddTrailingMetadata("grpc-retry-pushback-ms",
                                    absl::StrCat(static_cast<int>(error->retry_after_s * 1e3)));
    }
    return grpc::Status(CodeOf(error->code), error->message);
  }

  grpc::CallbackServerContext* const context_;
  const OffloadPorts ports_;
  const std::shared_ptr<Session> session_;
  const Credentials credentials_;
  const absl::StatusOr<Caller> caller_;
  // What came was a whole frame; `welcome`: the connection may stay.
  void Took(const grpc::ByteBuffer& frame, bool welcome) {
    if (connection_ == nullptr) return;
    connection_->Took(frame.Length());
    if (welcome) connection_->Welcomed();
  }

  SessionCore core_;
  const std::shared_ptr<Connection> connection_;  // null: its transport is not counted

 private:
  bool counted_ = false;  // among its connection's streams
  grpc::ByteBuffer out_;  // lives until OnWriteDone
  std::shared_ptr<StreamReactor> self_;
};

// After a lone query whose prompt is still to come the next read is held until the decision is written (README.md).
class SessionReactor final : public StreamReactor<grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>> {
 public:
  using StreamReactor::StreamReactor;

  void Begin() {
    if (Register()) StartRead(&in_);
  }

  void OnReadDone(bool ok) override {
    reading_ = Reading::kTaking;
    if (!Take(ok)) return;
    in_.Clear();
    Reading taking = Reading::kTaking;
    if (core_.asks_alone() && reading_.compare_exchange_strong(taking, Reading::kHeld)) return;
    reading_ = Reading::kBegun;
    StartRead(&in_);
  }

 protected:
  void ReadOn() override {
    Reading was = reading_;
    if (was == Reading::kTaking && reading_.compare_exchange_strong(was, Reading::kNotHeld)) return;
    if (was != Reading::kHeld || !session_->outbox.HoldOpen())
      return;  // gRPC's stream may be gone once it has finished
    if (reading_.compare_exchange_strong(was, Reading::kBegun)) StartRead(&in_);
    session_->outbox.LetGo();
  }

 private:
  enum class Reading {
    kBegun,    // gRPC has the buffer
    kTaking,   // a frame is looked at
    kNotHeld,  // the same, and its decision may be written already
    kHeld,     // whoever writes next begins the next read
  };

  // False when there is nothing more to read.
  bool Take(bool ok) {
    const Reaction reaction(static_cast<SessionStream*>(this));
    if (!ok) {
      if (!context_->IsCancelled()) core_.OnHalfClose();
      Write();
      return false;
    }
    v1::DeviceFrame frame;
    if (!Parse(in_, &frame)) {
      ports_.session.metrics->Refused(Refusal::kUndecodable);
      End(MakeError(ErrorCode::kInvalidArgument, Refusal::kUndecodable, "frame",
                    "the bytes are not a goad.v1.DeviceFrame"));
      return false;
    }
    const bool read_on = core_.OnFrame(frame, MonotonicTime::Now());
    Took(in_, core_.greeted());
    Write();
    return read_on;
  }

  std::atomic<Reading> reading_{Reading::kBegun};
  grpc::ByteBuffer in_;
};

class AskReactor final : public StreamReactor<grpc::ServerWriteReactor<grpc::ByteBuffer>> {
 public:
  using StreamReactor::StreamReactor;

  void Begin(const grpc::ByteBuffer& bytes) {
    if (!Register()) return;
    v1::AskRequest request;
    std::optional<ErrorInfo> error;
    if (Parse(bytes, &request)) {
      error = core_.OnAsk(request, MonotonicTime::Now());
      Took(bytes, !error);
    } else {
      error = MakeError(ErrorCode::kInvalidArgument, Refusal::kUndecodable, "request", "not a goad.v1.AskRequest");
    }
    if (error) {
      ports_.session.metrics->Refused(Refusal::kBadAsk);
      return End(*error);
    }
    Write();
  }
};

class OffloadService final
    : public v1::Offload::WithRawCallbackMethod_Session<v1::Offload::WithRawCallbackMethod_Ask<v1::Offload::Service>> {
 public:
  explicit OffloadService(const OffloadPorts& ports) : ports_(ports) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Session(grpc::CallbackServerContext* context) override {
    auto reactor = std::make_shared<SessionReactor>(context, ports_);
    { const Reaction made(static_cast<SessionStream*>(reactor.get())); }
    reactor->Begin();
    return reactor.get();  // keeps itself until OnDone
  }
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Ask(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request) override {
    auto reactor = std::make_shared<AskReactor>(context, ports_);
    { const Reaction made(static_cast<SessionStream*>(reactor.get())); }
    reactor->Begin(*request);
    return reactor.get();
  }

 private:
  const OffloadPorts ports_;
};

}  // namespace

std::unique_ptr<grpc::Service> MakeOffloadService(const OffloadPorts& ports) {
  return std::make_unique<OffloadService>(ports);
}

}  // namespace goad::server
