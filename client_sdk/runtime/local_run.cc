#include "client_sdk/runtime/local_run.h"

#include <algorithm>
#include <exception>
#include <system_error>

#include "absl/strings/str_cat.h"

namespace goad::internal {

LocalRun::~LocalRun() {
  GiveUp();
  if (thread_.joinable()) thread_.join();
}

void LocalRun::Start(const LocalModel& model) {
  try {
    thread_ = std::thread([this, model] { Run(model); });
  } catch (const std::system_error& error) {
    LocalEnd end;
    end.status = absl::ResourceExhaustedError(absl::StrCat("no thread for the local model: ", error.what()));
    mailbox_->Post([this, end] { reports_.on_end(end, 0, 0); });
  }
}

void LocalRun::Run(const LocalModel& model) {
  LocalEnd end;
  try {
    end = model(*this);
  } catch (const std::exception& thrown) {
    end.status = absl::InternalError(absl::StrCat("exception: ", thrown.what()));
  } catch (...) {
    end.status = absl::InternalError("something that is no std::exception");
  }
  double seconds = 0;
  int tokens = 0;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    on_unwanted_ = nullptr;
    tokens = tokens_;
    if (tokens > 0) seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - first_).count();
  }
  mailbox_->Post([this, end = std::move(end), seconds, tokens] {
    if (!unwanted_) reports_.on_end(end, seconds, tokens);
  });
}

bool LocalRun::Push(AnswerPiece piece) {
  if (unwanted_) return false;
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (tokens_ == 0) first_ = std::chrono::steady_clock::now();
    tokens_ += std::max(piece.tokens, 1);
  }
  const auto shared = std::make_shared<AnswerPiece>(std::move(piece));  // std::function wants what can be copied
  mailbox_->PostInTurn(
      [this, shared] {
        if (!unwanted_) reports_.on_piece(std::move(*shared));
      },
      unwanted_);
  return !unwanted_;
}

void LocalRun::Uncertainty(double uncertainty) {
  mailbox_->Post([this, uncertainty] {
    if (!unwanted_) reports_.on_uncertainty(uncertainty);
  });
}

void LocalRun::OnUnwanted(std::function<void()> call) {
  {
    std::lock_guard<std::mutex> lock(mutex_);
    if (!unwanted_) {
      on_unwanted_ = std::move(call);
      return;
    }
  }
  if (call) call();
}

void LocalRun::GiveUp() {
  // Under the lock: the model's thread takes the call back before what it captures is gone.
  std::lock_guard<std::mutex> lock(mutex_);
  if (unwanted_.exchange(true)) return;
  if (on_unwanted_) on_unwanted_();
  on_unwanted_ = nullptr;
  mailbox_->Wake();
}

}  // namespace goad::internal
