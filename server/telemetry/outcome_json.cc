#include "server/telemetry/outcome_json.h"

#include <array>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "server/base/clip.h"

namespace goad::server {
namespace {

using nlohmann::json;

// By number of the enum's value.
constexpr std::array<const char*, 5> kEndings = {"completed", "failed", "cancelled", "expired", "drained"};

constexpr double kMost = 1e15;       // of any number: what is made of them stays finite
constexpr double kLeastRate = 1e-9;  // of tokens per second, likewise

// One list of fields for both directions.
template <typename Visit, typename Record>
void Fields(Visit& visit, Record& record) {
  visit("query_id", record.query_id);
  visit("device", record.device);
  visit("tenant", record.tenant);
  visit("trace_id", record.trace_id);
  visit("backend", record.backend);
  visit("prompt_bits", record.prompt_bits);
  visit("upload_s", record.upload_s);
  visit("sharers", record.sharers);
  visit("predicted_upload_s", record.predicted_upload_s);
  visit("compute_s", record.compute_s);
  visit("first_token_s", record.first_token_s);
  visit("output_tokens", record.output_tokens);
  visit("predicted_compute_s", record.predicted_compute_s);
  visit("prompt_tokens", record.prompt_tokens);
  visit("computed_tokens", record.computed_tokens);
  visit("expected_output_tokens", record.expected_output_tokens);
  visit("max_output_tokens", record.max_output_tokens);
  visit("queries", record.queries);
}

template <typename Visit, typename Compute>
void ConfiguredFields(Visit& visit, Compute& compute) {
  visit("overhead_s", compute.overhead_s);
  visit("prefill_tokens_per_s", compute.prefill_tokens_per_s);
  visit("token_time_s", compute.token_time_s);
  visit("token_time_per_query_s", compute.token_time_per_query_s);
}

struct Writer {
  json* out;
  void operator()(const char* name, double value) const {
    (*out)[name] = std::isfinite(value) ? json(value) : json(nullptr);
  }
  void operator()(const char* name, int value) const { (*out)[name] = value; }
  void operator()(const char* name, const std::string& value) const { (*out)[name] = value; }
  template <typename T>
  void operator()(const char* name, const std::optional<T>& value) const {
    (*out)[name] = nullptr;
    if (value) (*this)(name, *value);
  }
};

class Reader {
 public:
  explicit Reader(const json& in) : in_(in) {}
  const absl::Status& status() const { return status_; }

  void operator()(const char* name, double& value) {
    const json* field = Find(name);
    if (field == nullptr || field->is_null()) return;
    if (!field->is_number()) return Refuse(name, *field, "a number");
    const double number = field->get<double>();
    if (!(number >= 0 && number <= kMost)) return Refuse(name, *field, "in 0..1e15");
    value = number;
  }
  void operator()(const char* name, int& value) {
    double number = value;
    (*this)(name, number);
    if (!(number <= std::numeric_limits<int>::max())) return Refuse(name, in_.at(name), "at most 2147483647");
    value = static_cast<int>(number);
  }
  void operator()(const char* name, std::string& value) {
    const json* field = Find(name);
    if (field == nullptr) return;
    if (!field->is_string()) return Refuse(name, *field, "a string");
    field->get_to(value);
  }
  template <typename T>
  void operator()(const char* name, std::optional<T>& value) {
    const json* field = Find(name);
    if (field != nullptr && !field->is_null()) (*this)(name, value.emplace());
  }
  void Need(const char* name) {
    if (Find(name) == nullptr || Find(name)->is_null()) Fail(absl::StrCat(name, ": is missing"));
  }
  void Refuse(const char* name, const json& field, const char* want) {
    Fail(absl::StrCat(name, ": ", Clip(field.dump(-1, ' ', false, json::error_handler_t::replace)), " is not ", want));
  }

 private:
  const json* Find(const char* name) const {
    const auto found = in_.find(name);
    return found == in_.end() ? nullptr : &*found;
  }
  void Fail(const std::string& message) {
    if (status_.ok()) status_ = absl::InvalidArgumentError(message);
  }

  const json& in_;
  absl::Status status_;  // of the first field that is wrong
};

}  // namespace

json ToJson(const OutcomeRecord& record) {
  json out = {{"kind", "outcome"}, {"ended", kEndings[static_cast<size_t>(record.ending)]}, {"configured", nullptr}};
  Writer writer{&out};
  writer("at_s", record.at_s);
  writer("site", record.site);
  Fields(writer, record);
  if (record.configured) {
    Writer compute{&out["configured"]};
    ConfiguredFields(compute, *record.configured);
  }
  return out;
}

absl::StatusOr<OutcomeRecord> OutcomeFromJson(const json& line) {
  OutcomeRecord record;
  Reader reader(line);
  for (const char* name : {"at_s", "site", "ended"}) reader.Need(name);
  if (!reader.status().ok()) return reader.status();
  reader("at_s", record.at_s);
  reader("site", record.site);
  size_t ending = 0;
  while (ending < kEndings.size() && line.at("ended") != kEndings[ending]) ++ending;
  if (ending == kEndings.size()) reader.Refuse("ended", line.at("ended"), "an ending that is known here");
  record.ending = static_cast<Ending>(ending);
  Fields(reader, record);
  if (const auto found = line.find("configured"); found != line.end() && !found->is_null()) {
    if (!found->is_object()) {
      reader.Refuse("configured", *found, "an object");
      return reader.status();
    }
    Reader compute(*found);
    record.configured.emplace();
    ConfiguredFields(compute, *record.configured);
    if (compute.status().ok() && record.configured->prefill_tokens_per_s < kLeastRate) {
      compute.Refuse("prefill_tokens_per_s", found->at("prefill_tokens_per_s"), "at least 1e-9");
    }
    if (!compute.status().ok()) {
      return absl::InvalidArgumentError(absl::StrCat("configured.", compute.status().message()));
    }
  }
  if (!reader.status().ok()) return reader.status();
  return record;
}

}  // namespace goad::server
