// One run of a local model, on a thread of its own.
#ifndef GOAD_CLIENT_SDK_RUNTIME_LOCAL_RUN_H_
#define GOAD_CLIENT_SDK_RUNTIME_LOCAL_RUN_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <thread>

#include "client_sdk/runtime/mailbox.h"
#include "goad/runtime.h"

namespace goad::internal {

class LocalRun : public LocalOutput {
 public:
  // Run by whoever takes from the mailbox, and not after GiveUp.
  struct Reports {
    std::function<void(AnswerPiece)> on_piece;
    std::function<void(double)> on_uncertainty;
    // `seconds` since the first piece; 0 when there was none.
    std::function<void(LocalEnd, double seconds, int tokens)> on_end;
  };

  LocalRun(std::shared_ptr<Mailbox> mailbox, Reports reports)
      : mailbox_(std::move(mailbox)), reports_(std::move(reports)) {}
  ~LocalRun() override;  // gives up, and waits for the model to return

  void Start(const LocalModel& model);
  void GiveUp();  // nobody wants the rest; any thread

  bool Push(AnswerPiece piece) override;
  void Uncertainty(double uncertainty) override;
  void OnUnwanted(std::function<void()> call) override;

 private:
  void Run(const LocalModel& model);

  const std::shared_ptr<Mailbox> mailbox_;
  const Reports reports_;
  std::thread thread_;
  std::atomic<bool> unwanted_{false};
  std::mutex mutex_;  // guards the rest
  std::function<void()> on_unwanted_;
  std::chrono::steady_clock::time_point first_;
  int tokens_ = 0;
};

}  // namespace goad::internal

#endif  // GOAD_CLIENT_SDK_RUNTIME_LOCAL_RUN_H_
