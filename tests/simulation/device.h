// One device of a simulation: a client core, with a stream to a goad by generation. Checks that a question is asked
// again only where nothing of its answer was seen and nobody else is at it.
#ifndef GOAD_TESTS_SIMULATION_DEVICE_H_
#define GOAD_TESTS_SIMULATION_DEVICE_H_

#include <functional>
#include <map>
#include <memory>
#include <string>

#include "client_sdk/src/client_core.h"
#include "tests/simulation/goad.h"

namespace goad::server {

class SimDevice final : public SimPeer {
 public:
  // `at`: the goad at an address, killed maybe. `changed` is called whenever the core may want to be woken
  // at another time. Neither the stage nor the goads are owned.
  SimDevice(Stage* stage, const ClientOptions& options, std::function<SimGoad*(const std::string& address)> at,
            std::function<void()> changed);

  internal::ClientCore& core() { return *core_; }
  void Apply();  // what the core wants done
  // The goad that it reports to and asks; null when there is none.
  SimGoad* home() const;
  size_t streams() const { return streams_.size(); }
  int lost_streams() const { return lost_streams_; }        // by faults
  int asked_elsewhere() const { return asked_elsewhere_; }  // questions that went to another goad than before

  void Deliver(uint64_t generation, const v1::ServerFrame& frame) override;
  void Lost(uint64_t generation, const char* why) override;

 private:
  struct Link {
    std::shared_ptr<SimStream> stream;
    bool left = false;  // after Goodbye
  };
  struct Question {
    uint64_t generation = 0;  // of the stream on which it was asked last
    SimGoad* goad = nullptr;  // at the other end of that
    bool begun = false;       // something of its answer was seen
    bool over = false;        // its terminal was seen on that stream
  };
  void Open(uint64_t generation, const std::string& address);
  void Send(uint64_t generation, const v1::DeviceFrame& frame);
  void Lose(uint64_t generation);
  void OnAsked(uint64_t generation, const std::string& id);
  void OnAnswer(uint64_t generation, const v1::ServerFrame& frame);

  Stage* const stage_;
  const std::function<SimGoad*(const std::string& address)> at_;
  const std::function<void()> changed_;
  std::unique_ptr<internal::ClientCore> core_;
  std::map<uint64_t, Link> streams_;  // by generation
  uint64_t used_ = 0;                 // that was reported on or asked on last
  std::map<std::string, Question> questions_;
  int lost_streams_ = 0, asked_elsewhere_ = 0;
};

}  // namespace goad::server

#endif  // GOAD_TESTS_SIMULATION_DEVICE_H_
