// Streams carry raw bytes: an undecodable frame then ends its stream with a status that says so, instead of looking like
// a half-close.
//
// Life of a stream: made by the service -> registered -> reads one frame after the other; writes what Outbox::Next says,
// from the session writer or from OnWriteDone -> Finish, once, when Next says so -> OnDone frees it. OnCancel and a failed
// write close the outbox, which makes Next say Finish.
#include "server/session/offload_service.h"

#include <grpcpp/grpcpp.h>

#include "absl/strings/str_cat.h"
#include "goad/v1/offload.grpc.pb.h"
#include "server/session/wire_codec.h"

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

std::string IdentityOf(const grpc::CallbackServerContext& context) {
  const auto auth = context.auth_context();
  if (auth == nullptr || !auth->IsPeerAuthenticated()) return "";
  const auto names = auth->GetPeerIdentity();
  return names.empty() ? "" : absl::StrCat("certificate ", std::string(names[0].data(), names[0].size()));
}

template <typename Message>
bool Parse(const grpc::ByteBuffer& bytes, Message* message) {
  grpc::ByteBuffer copy(bytes);  // Deserialize consumes it; the slices are shared
  return grpc::SerializationTraits<Message>::Deserialize(&copy, message).ok();
}

// What Session and Ask have in common: everything but reading.
template <typename GrpcReactor>
class StreamReactor : public GrpcReactor, public SessionStream,
                      public std::enable_shared_from_this<StreamReactor<GrpcReactor>> {
 public:
  StreamReactor(grpc::CallbackServerContext* context, const OffloadPorts& ports)
      : context_(context), ports_(ports),
        session_(std::make_shared<Session>(SessionId{ports.next_session_id->fetch_add(1)}, context->peer(),
                                           ports.session.config->Current()->limits.outbox_bytes, ports.session.metrics,
                                           MonotonicTime::Now())),
        core_(session_, IdentityOf(*context), ports.session) {}

  // False when the stream is refused; it then finishes by itself.
  bool Register() {
    self_ = this->shared_from_this();
    const auto limit = static_cast<size_t>(ports_.session.config->Current()->limits.sessions);
    const absl::Status added = ports_.session.registry->Add(session_, self_, limit);
    if (added.ok()) return true;
    ports_.session.metrics->Refused(absl::IsUnavailable(added) ? "DRAINING" : "SESSIONS");
    ErrorInfo error;
    error.code = absl::IsUnavailable(added) ? ErrorCode::kUnavailable : ErrorCode::kResourceExhausted;
    error.reason = absl::IsUnavailable(added) ? "DRAINING" : "SESSIONS";
    error.message = std::string(added.message());
    error.retry_after_s = absl::ToDoubleSeconds(ports_.session.config->Current()->limits.retry_after);
    Refuse(error);
    return false;
  }

  void Refuse(const ErrorInfo& error) {
    session_->outbox.Close(error);
    core_.OnEnd();
    Pump();
  }

  void Pump() override {
    Outbox::Step step = session_->outbox.Next();
    if (step.resume) ports_.dispatch->Resume(session_->id);
    switch (step.kind) {
      case Outbox::Step::kNothing: break;
      case Outbox::Step::kWrite: {
        bool own = false;
        grpc::SerializationTraits<v1::ServerFrame>::Serialize(step.frame, &out_, &own);
        this->StartWrite(&out_);
        break;
      }
      case Outbox::Step::kFinish: this->Finish(MakeStatus(step.error)); break;
    }
  }

  void OnWriteDone(bool ok) override {
    out_.Clear();
    session_->outbox.WriteDone();
    if (!ok) core_.OnEnd();
    Pump();
  }
  void OnCancel() override {
    core_.OnEnd();
    Pump();
  }
  void OnDone() override {
    core_.OnEnd();
    ports_.session.registry->Remove(session_->id);
    self_.reset();  // the last use of this
  }

 protected:
  grpc::Status MakeStatus(const std::optional<ErrorInfo>& error) {
    if (!error) {
      return context_->IsCancelled() ? grpc::Status(grpc::StatusCode::CANCELLED, "the stream was cancelled")
                                     : grpc::Status::OK;
    }
    context_->AddTrailingMetadata("goad-error-bin", EncodeError(*error).SerializeAsString());
    if (error->retry_after_s > 0) {
      context_->AddTrailingMetadata("grpc-retry-pushback-ms", absl::StrCat(static_cast<int>(error->retry_after_s * 1e3)));
    }
    return grpc::Status(CodeOf(error->code), error->message);
  }

  grpc::CallbackServerContext* const context_;
  const OffloadPorts ports_;
  const std::shared_ptr<Session> session_;
  SessionCore core_;

 private:
  grpc::ByteBuffer out_;  // lives until OnWriteDone
  std::shared_ptr<StreamReactor> self_;
};

class SessionReactor final : public StreamReactor<grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>> {
 public:
  using StreamReactor::StreamReactor;

  void Begin() {
    if (Register()) StartRead(&in_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      if (!context_->IsCancelled()) core_.OnHalfClose();
      return Pump();
    }
    v1::DeviceFrame frame;
    if (!Parse(in_, &frame)) {
      ports_.session.metrics->Refused("UNDECODABLE");
      ErrorInfo error;
      error.code = ErrorCode::kInvalidArgument;
      error.reason = "UNDECODABLE";
      error.field = "frame";
      error.message = "frame: the bytes are not a goad.v1.DeviceFrame";
      return Refuse(error);
    }
    core_.OnFrame(frame, MonotonicTime::Now());
    Pump();
    in_.Clear();
    StartRead(&in_);
  }

 private:
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
    } else {
      error = ErrorInfo{ErrorCode::kInvalidArgument, "UNDECODABLE", "request", "request: not a goad.v1.AskRequest", 0};
    }
    if (error) {
      ports_.session.metrics->Refused("BAD_ASK");
      return Refuse(*error);
    }
    Pump();
  }
};

class OffloadService final
    : public v1::Offload::WithRawCallbackMethod_Session<v1::Offload::WithRawCallbackMethod_Ask<v1::Offload::Service>> {
 public:
  explicit OffloadService(const OffloadPorts& ports) : ports_(ports) {}

  grpc::ServerBidiReactor<grpc::ByteBuffer, grpc::ByteBuffer>* Session(grpc::CallbackServerContext* context) override {
    auto reactor = std::make_shared<SessionReactor>(context, ports_);
    reactor->Begin();
    return reactor.get();  // keeps itself until OnDone
  }
  grpc::ServerWriteReactor<grpc::ByteBuffer>* Ask(grpc::CallbackServerContext* context,
                                                  const grpc::ByteBuffer* request) override {
    auto reactor = std::make_shared<AskReactor>(context, ports_);
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
