#include "tests/support/daemon_fixture.h"

#include <curl/curl.h>

#include <sstream>

namespace goad::server {
namespace {

size_t Append(char* bytes, size_t size, size_t count, void* user) {
  static_cast<std::string*>(user)->append(bytes, size * count);
  return size * count;
}

std::string Get(const std::string& url) {
  std::string body;
  CURL* easy = curl_easy_init();
  curl_easy_setopt(easy, CURLOPT_URL, url.c_str());
  curl_easy_setopt(easy, CURLOPT_NOPROXY, "*");
  curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, &Append);
  curl_easy_setopt(easy, CURLOPT_WRITEDATA, &body);
  curl_easy_perform(easy);
  curl_easy_cleanup(easy);
  return body;
}

}  // namespace

double DaemonTest::Metric(const std::string& name, const std::string& label) {
  std::istringstream page(Get(absl::StrCat("http://127.0.0.1:", daemon_->metrics_port(), "/metrics")));
  double sum = 0;
  for (std::string line; std::getline(page, line);) {
    if (line.rfind(name, 0) != 0 || (line[name.size()] != '{' && line[name.size()] != ' ')) continue;
    if (line.find(label) == std::string::npos) continue;
    sum += std::strtod(line.c_str() + line.find_last_of(' '), nullptr);
  }
  return sum;
}

void DaemonTest::WaitUntil(const std::function<bool()>& condition) {
  const MonotonicTime until = MonotonicTime::Now() + kLong;
  while (!condition()) {
    ASSERT_LT(MonotonicTime::Now(), until) << "still not true after " << absl::FormatDuration(kLong);
    std::this_thread::yield();
  }
}

}  // namespace goad::server
