// The paper's radio and sites, moment by moment: flows that share, whose rates change whenever one begins or ends.
#ifndef GOAD_SERVER_SIM_PAPER_FLOWS_H_
#define GOAD_SERVER_SIM_PAPER_FLOWS_H_

#include <vector>

#include "server/sim/flows.h"

namespace goad::server {

// Those that have an amount left and a rate.
class SharedFlows : public Flows {
 public:
  explicit SharedFlows(const std::vector<sched::SiteState>& sites) : sites_(sites) {}
  void Begin(const Question& question, MonotonicTime now) override;
  void Drop(sched::QueryId id, MonotonicTime now) override;
  MonotonicTime Next(MonotonicTime now) override;
  void Advance(MonotonicTime from, MonotonicTime to) override;
  std::vector<End> Ended(MonotonicTime now) override;

 protected:
  struct Flow {
    const Question* question;
    double left, rate;  // bits and bit/s, or FLOP and FLOP/s
  };
  virtual double Amount(const Question& question) const = 0;
  virtual void SetRates() = 0;  // of flows_, as they are now

  const std::vector<sched::SiteState> sites_;
  std::vector<Flow> flows_;
};

// Uploads to shannon sites: each suffers the interference that there is.
class RadioUplinks final : public SharedFlows {
 public:
  using SharedFlows::SharedFlows;

 private:
  double Amount(const Question& question) const override;
  void SetRates() override;
};

// An answer takes 6.4 local reference times where 8 were predicted, as in the paper's code.
class EqualShareSites final : public SharedFlows {
 public:
  using SharedFlows::SharedFlows;

 private:
  double Amount(const Question& question) const override;
  void SetRates() override;
};

}  // namespace goad::server

#endif  // GOAD_SERVER_SIM_PAPER_FLOWS_H_
