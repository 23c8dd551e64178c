// The OpenAI endpoint: its routes, who may use them, and one answer after the other.
#ifndef GOAD_CLIENT_SDK_DEVICE_SERVICE_H_
#define GOAD_CLIENT_SDK_DEVICE_SERVICE_H_

#include <atomic>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "client_sdk/device/app_call.h"
#include "client_sdk/device/app_listener.h"
#include "client_sdk/device/device_metrics.h"
#include "client_sdk/device/local_server.h"
#include "goad/client.h"
#include "goad/runtime.h"

namespace goad::device {

struct ServiceOptions {
  std::string api_key;      // apps send it as a bearer token; empty = none is asked for
  std::string local_model;  // that `auto` and `local` mean; empty = the local server's first
  bool loopback = true;     // only this device can connect, so nobody knows it by another name than localhost
  int most_requests = 64;   // at once; more are refused with 429
};

// Thread-safe. What it is given must outlive it.
class Service {
 public:
  // `local` may be null: then every question is the edge's.
  Service(ServiceOptions options, Client* client, Runtime* runtime, const LocalServer* local);

  void AddRoutes(AppListener* listener);
  void SetFacts(LocalFacts facts);
  // One short answer of the local model, so that it is loaded, and the runtime knows what a token of it takes, before
  // the first app asks. Blocks until then, or until `stop` says true.
  void Warm(const std::function<bool()>& stop, const LocalFacts& found);

 private:
  struct Running;  // one request

  void Complete(const httplib::Request& request, httplib::Response& response, bool chat);
  void Stream(std::shared_ptr<Running> running, AnswerPiece first, const httplib::Request& request,
              httplib::Response& response);
  void Models(httplib::Response& response, const std::string& id);
  void Refuse(const ApiError& error, const char* reason, httplib::Response& response);
  void GivenUp(httplib::Response& response);
  bool Authorized(const httplib::Request& request) const;
  std::optional<ApiError> RouteOf(const AppCall& call, const httplib::Request& request, Route* route,
                                  std::string* local_model) const;
  LocalFacts facts() const;

  const ServiceOptions options_;
  Client* const client_;
  Runtime* const runtime_;
  const LocalServer* const local_;
  DeviceMetrics metrics_;
  std::atomic<int> running_{0};
  mutable std::mutex mutex_;  // guards the rest
  LocalFacts facts_;
};

}  // namespace goad::device

#endif  // GOAD_CLIENT_SDK_DEVICE_SERVICE_H_
