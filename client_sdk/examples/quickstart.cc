// The whole use of goad from a device: goad-quickstart ADDRESS "question" [UNCERTAINTY]
#include <cstdlib>
#include <iostream>

#include "goad/client.h"

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: goad-quickstart HOST:PORT \"question\" [uncertainty 0..1, default 1]\n";
    return 2;
  }
  auto client =
      goad::Client::Connect({.address = argv[1], .device_name = "quickstart", .on_problem = [](const auto& problem) {
                               std::cerr << problem.code << ": " << problem.detail << "\n";
                             }});
  goad::Query query;
  query.prompt = argv[2];
  query.uncertainty = argc > 3 ? std::atof(argv[3]) : 1.0;  // 1 - (p1 - p2) of the device model's first token
  query.local_delay = absl::Milliseconds(500);              // what answering here would take
  query.max_output_tokens = 32;
  client->ReportLinks({{.site = "cell-a", .gain_db = -80}});  // what the radio measures; kept across reconnects
  const goad::Answer answer = client->Ask(query, [] { return std::string("(the device's own model would answer)"); });
  std::cout << answer.text << "\n";
  std::cerr << (answer.source == goad::Answer::Source::kEdge ? "edge " + answer.decision.site
                                                             : "local " + answer.why_local)
            << " " << answer.decision.reason << " " << absl::FormatDuration(answer.delay) << " " << answer.detail
            << "\n";
}
