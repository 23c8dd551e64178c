// goadctl ask: one question by the way that devices take, to its last token.
#include <algorithm>
#include <iostream>

#include "absl/strings/match.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/strip.h"
#include "goad/v1/offload.grpc.pb.h"
#include "server/base/clip.h"
#include "server/base/read_file.h"
#include "server/ctl/commands.h"
#include "server/ctl/table.h"

namespace goad::ctl {
namespace {

constexpr size_t kMostToken = 4097;

// Where devices call goad; empty, and the reason told, when that cannot be known.
std::string DeviceAddress(const Context& context, int* failed) {
  if (!context.device.empty()) return context.device;
  v1::StatusResponse status;
  if ((*failed = Call(context, &v1::Admin::Stub::Status, v1::StatusRequest(), &status)) != kOk) return "";
  if (status.listen_tls() && !context.tls) {
    std::cerr << "goadctl: the device listener speaks TLS: --ca FILE, and --device NAME:PORT with a name of its "
                 "certificate\n";
    *failed = kUsage;
    return "";
  }
  if (status.listen_address().empty()) {  // an older one
    std::cerr << "goadctl: this goad does not tell where devices call it: --device HOST:PORT\n";
    *failed = kUsage;
  }
  return status.listen_address();
}

// What a model wrote, for a terminal: with its line ends and tabs.
std::string Shown(const std::string& text) {
  std::string shown;
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find_first_of("\n\t", at), text.size());
    absl::StrAppend(&shown, server::Printable(text.substr(at, end - at)), text.substr(end, 1));
    at = end + 1;
  }
  return shown;
}

std::string Reason(v1::Reason reason) { return v1::Reason_Name(reason).substr(sizeof "REASON_" - 1); }

}  // namespace

int Ask(const Context& context, const std::string& question) {
  int failed = kOk;
  Context device;
  device.address = DeviceAddress(context, &failed);
  if (failed != kOk || device.address.empty()) return failed;
  const auto stub = v1::Offload::NewStub(grpc::CreateChannel(device.address, context.credentials));
  grpc::ClientContext call;
  // A backend may take its time to the first token; --timeout is for goad's own answers.
  call.set_deadline(absl::ToChronoTime(absl::Now() + std::max(context.timeout, absl::Minutes(2))));
  if (!context.token_file.empty()) {
    const auto token = server::ReadFile(context.token_file, kMostToken);
    if (!token.ok()) {
      std::cerr << "goadctl: --token_file: " << std::string(token.status().message()) << "\n";
      return kUsage;
    }
    call.AddMetadata("authorization", absl::StrCat("Bearer ", absl::StripTrailingAsciiWhitespace(*token)));
  }
  v1::AskRequest request;
  request.mutable_query()->set_max_output_tokens(context.limit);
  request.mutable_query()->mutable_inline_prompt()->set_text(question);
  const auto stream = stub->Ask(&call, request);
  v1::ServerFrame frame;
  std::string text, last = "goad ended the call without an answer";
  int status = kRefused;
  while (stream->Read(&frame)) {
    if (context.json) PrintJson(frame, /*pretty=*/false);
    switch (frame.frame_case()) {
      case v1::ServerFrame::kDecision:
        if (frame.decision().verdict() == v1::VERDICT_OFFLOAD) break;
        last = absl::StrCat("a device would have had to answer itself: LOCAL, ", Reason(frame.decision().reason()));
        break;
      case v1::ServerFrame::kTokens:
        text += frame.tokens().text();
        if (!context.json) std::cout << Shown(frame.tokens().text()) << std::flush;
        break;
      case v1::ServerFrame::kCompleted: {
        const v1::Completed& done = frame.completed();
        status = kOk;
        last = absl::StrCat(done.site(), " ", done.backend(), ": ", done.output_tokens(), " tokens, first after ",
                            Duration(done.ttft_s()), ", all after ", Duration(done.total_s()), "; predicted ",
                            Duration(done.predicted_compute_s()), " for ", Duration(done.compute_s()));
        break;
      }
      case v1::ServerFrame::kFailed:
        last = absl::StrCat("failed: ", frame.failed().error().reason(), ": ", frame.failed().error().message());
        break;
      case v1::ServerFrame::kProtocolError: last = frame.protocol_error().error().message(); break;
      default: break;
    }
  }
  const grpc::Status ended = stream->Finish();
  if (!context.json && !text.empty() && text.back() != '\n') std::cout << "\n";
  if (status != kOk && !ended.ok()) return Report(device, ended);
  if (!context.json) std::cerr << server::Printable(last) << "\n";
  return status;
}

}  // namespace goad::ctl
