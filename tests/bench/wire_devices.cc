#include "tests/bench/wire_devices.h"

#include <grpcpp/grpcpp.h>

#include <cstdio>
#include <cstdlib>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/synchronization/notification.h"
#include "goad/v1/offload.grpc.pb.h"

namespace goad::server {

class Device final : public grpc::ClientBidiReactor<v1::DeviceFrame, v1::ServerFrame> {
 public:
  Device(int port, Fleet* fleet) : fleet_(fleet) {
    grpc::ChannelArguments arguments;
    arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, 1);
    std::shared_ptr<grpc::ChannelCredentials> credentials = grpc::InsecureChannelCredentials();
    if (const std::string& root = fleet->options_.root_pem; !root.empty()) {
      grpc::SslCredentialsOptions tls;
      tls.pem_root_certs = root;
      credentials = grpc::SslCredentials(tls);
      arguments.SetSslTargetNameOverride("localhost");
    }
    channel_ = grpc::CreateCustomChannel(absl::StrCat("127.0.0.1:", port), credentials, arguments);
    stub_ = v1::Offload::NewStub(channel_);
    stub_->async()->Session(&context_, this);
    v1::DeviceFrame hello, links;
    hello.mutable_hello()->set_protocol_version(1);
    auto* link = links.mutable_link_report()->add_links();
    link->set_site("a");
    link->set_gain_db(-80);
    waiting_ = {hello, links};
    std::lock_guard<std::mutex> lock(mutex_);
    AddHold();
    WriteNext();
    StartRead(&in_);
    StartCall();
  }
  void Ask() {
    v1::DeviceFrame frame;
    v1::Query& query = *frame.mutable_query();
    query.set_query_id(absl::StrCat("q", ++asked_count_));
    query.set_uncertainty(0.1);
    query.set_prompt_bits(800);
    query.set_prompt_tokens(50);
    query.set_local_delay_s(0.0001);  // so that the policy looks at every link, and finds that none gains
    if (const int tokens = fleet_->options_.answer_tokens; tokens > 0) {
      query.set_prompt_bits(0);
      query.set_must_offload(true);
      query.set_max_output_tokens(static_cast<uint32_t>(tokens));
      query.mutable_inline_prompt()->set_text("why?");
    }
    asked_ = MonotonicTime::Now();
    first_ = true;
    std::lock_guard<std::mutex> lock(mutex_);
    waiting_.push_back(std::move(frame));
    WriteNext();
  }
  void Stop() {
    context_.TryCancel();
    RemoveHold();
  }
  void WaitUntilDone() { done_.WaitForNotification(); }

  void OnReadDone(bool ok) override {
    if (!ok) return;
    Take();
    StartRead(&in_);
  }
  void OnWriteDone(bool ok) override {
    std::lock_guard<std::mutex> lock(mutex_);
    writing_ = false;
    if (ok) WriteNext();
  }
  void OnDone(const grpc::Status&) override { done_.Notify(); }

 private:
  void Take() {
    if (in_.has_tokens()) return OnTokens(in_.tokens());
    if (in_.has_welcome()) {
      std::lock_guard<std::mutex> lock(fleet_->mutex_);
      ++fleet_->welcome_;
      return fleet_->changed_.notify_one();
    }
    if (in_.has_decision() && in_.decision().verdict() == v1::VERDICT_OFFLOAD) return;
    const bool ended = fleet_->options_.answer_tokens > 0 ? in_.has_completed() : in_.has_decision();
    if (!ended) {
      std::fprintf(stderr, "wire_bench: not an answer: %s\n", in_.ShortDebugString().c_str());
      std::abort();
    }
    ++fleet_->answers_;
    if (fleet_->options_.again && !fleet_->stop_) return Ask();
    std::lock_guard<std::mutex> lock(fleet_->mutex_);
    --fleet_->waiting_;
    fleet_->changed_.notify_one();
  }
  void OnTokens(const v1::Tokens& tokens) {
    fleet_->tokens_ += tokens.tokens();
    const MonotonicTime now = MonotonicTime::Now();
    const bool first = std::exchange(first_, false);
    if (first || fleet_->options_.times_tokens) {
      std::lock_guard<std::mutex> lock(fleet_->mutex_);
      (first ? fleet_->first_tokens_s_ : fleet_->gaps_s_).push_back(SecondsBetween(first ? asked_ : last_token_, now));
    }
    last_token_ = now;
  }
  void WriteNext() {  // under mutex_
    if (writing_ || waiting_.empty()) return;
    out_ = std::move(waiting_.front());
    waiting_.erase(waiting_.begin());
    writing_ = true;
    StartWrite(&out_);
  }

  Fleet* const fleet_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::Offload::Stub> stub_;
  grpc::ClientContext context_;
  v1::DeviceFrame out_;
  v1::ServerFrame in_;
  std::mutex mutex_;
  std::vector<v1::DeviceFrame> waiting_;  // guarded by mutex_, as is writing_
  bool writing_ = false;
  uint64_t asked_count_ = 0;
  MonotonicTime asked_, last_token_;
  bool first_ = false;
  absl::Notification done_;
};

Fleet::Fleet(int port, Options options) : options_(std::move(options)) {
  for (int k = 0; k < options_.connections; ++k) devices_.push_back(std::make_unique<Device>(port, this));
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return welcome_ == options_.connections; });
}

Fleet::~Fleet() {
  for (const auto& device : devices_) device->Stop();
  for (const auto& device : devices_) device->WaitUntilDone();
}

void Fleet::Ask(size_t device) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    ++waiting_;
  }
  devices_[device]->Ask();
}

void Fleet::AskAll() {
  for (size_t k = 0; k < devices_.size(); ++k) Ask(k);
}

void Fleet::Finish() {
  stop_ = true;
  std::unique_lock<std::mutex> lock(mutex_);
  changed_.wait(lock, [&] { return waiting_ == 0; });
  stop_ = false;
}

std::vector<double> Fleet::TakeFirstTokens() {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(first_tokens_s_, {});
}

std::vector<double> Fleet::TakeGaps() {
  std::lock_guard<std::mutex> lock(mutex_);
  return std::exchange(gaps_s_, {});
}

}  // namespace goad::server
