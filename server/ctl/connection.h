// The admin listener as the commands see it, and what they were told on the command line.
#ifndef GOAD_SERVER_CTL_CONNECTION_H_
#define GOAD_SERVER_CTL_CONNECTION_H_

#include <grpcpp/grpcpp.h>

#include <memory>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "goad/v1/admin.grpc.pb.h"

namespace goad::ctl {

// Exit statuses.
inline constexpr int kOk = 0, kRefused = 1, kUsage = 2, kUnreachable = 3;

struct Context {
  std::string address;
  std::shared_ptr<grpc::Channel> channel;
  std::unique_ptr<v1::Admin::Stub> admin;
  absl::Duration timeout;
  bool json = false;
  bool watch = false;
  bool colours = false;  // standard output is a terminal
  uint32_t limit = 0;
  absl::Duration trial;       // 0 = none
  std::string since, tenant;  // of log; empty = all
  std::string device;         // of ask: where devices call goad; empty = as goad says
  std::string token_file;
  std::string user;  // whom the log is told that this is for; empty = nobody
  bool tls = false;  // `credentials` are
  std::shared_ptr<grpc::ChannelCredentials> credentials;
  std::vector<std::string> arguments;  // of the command, all of them
};

// Prints what is wrong to standard error; the result is an exit status.
int Report(const Context& context, const grpc::Status& status);

// One call within the timeout, reported.
template <typename Request, typename Response>
int Call(const Context& context,
         grpc::Status (v1::Admin::Stub::*method)(grpc::ClientContext*, const Request&, Response*),
         const Request& request, Response* response) {
  grpc::ClientContext call;
  call.set_deadline(absl::ToChronoTime(absl::Now() + context.timeout));
  if (!context.user.empty()) call.AddMetadata("goad-user", context.user);
  return Report(context, (context.admin.get()->*method)(&call, request, response));
}

}  // namespace goad::ctl

#endif  // GOAD_SERVER_CTL_CONNECTION_H_
