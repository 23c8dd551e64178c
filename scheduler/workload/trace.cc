#include "scheduler/workload/trace.h"

#include <algorithm>
#include <cmath>
#include <functional>

#include "absl/strings/ascii.h"
#include "absl/strings/escaping.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"

namespace goad::sched {
namespace {

constexpr size_t kMostColumns = 256;
constexpr double kLatest_s = 1e10;  // a time may count from 1970
constexpr double kMostTokens = 1e6;
constexpr double kFastest_bps = 1e12;

struct Column {
  const char* name;
  double most;
  bool whole;
};

std::string Quoted(absl::string_view text) {
  constexpr size_t kMostQuoted = 40;
  return absl::StrCat("\"", absl::CEscape(text.substr(0, kMostQuoted)), text.size() > kMostQuoted ? "..." : "", "\"");
}

// Calls `add` with the values of `columns` of each row, in their order; the first is a time that does not run
// backwards.
absl::Status ReadRows(std::istream& in, const std::string& source, const std::vector<Column>& columns,
                      const std::function<absl::Status(const std::vector<double>&)>& add) {
  std::vector<char> buffer(kMostTraceLine + 2);
  std::vector<size_t> places;
  std::vector<double> values(columns.size());
  size_t number = 0, rows = 0, bytes = 0, width = 0;
  double last_s = 0;
  const auto refuse = [&](const auto&... what) {
    return absl::InvalidArgumentError(absl::StrCat(source, ":", number, ": ", what...));
  };
  while (in.getline(buffer.data(), static_cast<std::streamsize>(buffer.size())) || in.gcount() > 0) {
    ++number;
    const auto length = static_cast<size_t>(in.gcount());  // with its end, if it has one
    if (in.fail() || length > kMostTraceLine + 1) return refuse("is longer than ", kMostTraceLine, " bytes");
    if ((bytes += length) > kMostTraceBytes) return refuse("the file is longer than ", kMostTraceBytes, " bytes");
    const absl::string_view line =
        absl::StripAsciiWhitespace(absl::string_view(buffer.data(), in.eof() ? length : length - 1));
    if (line.empty()) continue;
    std::vector<absl::string_view> cells = absl::StrSplit(line, absl::MaxSplits(',', kMostColumns));
    if (cells.size() > kMostColumns) return refuse("has more than ", kMostColumns, " columns");
    for (absl::string_view& cell : cells) cell = absl::StripAsciiWhitespace(cell);
    if (places.empty()) {
      for (const Column& column : columns) {
        const auto found = std::find(cells.begin(), cells.end(), column.name);
        if (found == cells.end()) return refuse(column.name, ": no such column in the header");
        if (std::find(found + 1, cells.end(), column.name) != cells.end())
          return refuse(column.name, ": more than one such column in the header");
        places.push_back(static_cast<size_t>(found - cells.begin()));
      }
      width = cells.size();
      continue;
    }
    if (++rows > kMostTraceRows) return refuse("more than ", kMostTraceRows, " rows");
    if (cells.size() != width) return refuse("has ", cells.size(), " columns where the header has ", width);
    for (size_t k = 0; k < columns.size(); ++k) {
      const auto& [name, most, whole] = columns[k];
      const absl::string_view cell = cells[places[k]];
      double& value = values[k];
      if (!absl::SimpleAtod(cell, &value)) return refuse(name, ": ", Quoted(cell), " is not a number");
      if (!(value >= 0 && value <= most)) return refuse(name, ": ", Quoted(cell), " is not in 0..", most);
      if (whole && value != std::floor(value)) return refuse(name, ": ", Quoted(cell), " is not a whole number");
    }
    if (rows > 1 && values[0] < last_s)
      return refuse(columns[0].name, ": ", Quoted(cells[places[0]]), " runs backwards");
    last_s = values[0];
    if (absl::Status status = add(values); !status.ok()) return refuse(status.message());
  }
  if (in.bad()) return absl::InvalidArgumentError(absl::StrCat(source, ": cannot be read"));
  if (rows == 0) {
    return absl::InvalidArgumentError(
        absl::StrCat(source, places.empty() ? ": is empty" : ": has no rows below its header"));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<std::vector<Arrival>> ReadArrivals(std::istream& in, const std::string& source) {
  std::vector<Arrival> arrivals;
  double first_s = 0;
  const absl::Status status = ReadRows(
      in, source,
      {{"time_s", kLatest_s, false}, {"prompt_tokens", kMostTokens, true}, {"output_tokens", kMostTokens, true}},
      [&](const std::vector<double>& row) {
        if (arrivals.empty()) first_s = row[0];
        arrivals.push_back({row[0] - first_s, static_cast<int>(row[1]), static_cast<int>(row[2])});
        return absl::OkStatus();
      });
  if (!status.ok()) return status;
  return arrivals;
}

absl::StatusOr<UplinkTrace> UplinkTrace::Read(std::istream& in, const std::string& source) {
  UplinkTrace trace;
  double first_s = 0, rate_bps = 0;
  const auto add = [&](const std::vector<double>& row) {
    if (trace.start_s_.empty()) {
      first_s = row[0];
      trace.start_s_ = trace.bits_ = {0};
    } else {
      const double length_s = row[0] - first_s - trace.start_s_.back();
      if (!(length_s > 0)) return absl::InvalidArgumentError("time_s: is that of the row before");
      trace.start_s_.push_back(row[0] - first_s);
      trace.bits_.push_back(trace.bits_.back() + rate_bps * length_s);
    }
    rate_bps = row[1];
    return absl::OkStatus();
  };
  const absl::Status status =
      ReadRows(in, source, {{"time_s", kLatest_s, false}, {"uplink_bps", kFastest_bps, false}}, add);
  if (!status.ok()) return status;
  const size_t steps = trace.start_s_.size();
  const double last_s = steps > 1 ? trace.start_s_[steps - 1] - trace.start_s_[steps - 2] : 1;
  trace.start_s_.push_back(trace.start_s_.back() + last_s);
  trace.bits_.push_back(trace.bits_.back() + rate_bps * last_s);
  if (!(trace.bits_.back() > 0))
    return absl::InvalidArgumentError(
        absl::StrCat(source, ": uplink_bps: is 0 in every row, nothing would ever arrive"));
  return trace;
}

double UplinkTrace::BitsUntil(double time_s) const {
  const double rounds = std::floor(time_s / period_s());
  const double rest_s = std::clamp(time_s - rounds * period_s(), 0.0, period_s());
  const auto after = std::upper_bound(start_s_.begin() + 1, start_s_.end() - 1, rest_s);
  const auto k = static_cast<size_t>(after - start_s_.begin());
  const double share = (rest_s - start_s_[k - 1]) / (start_s_[k] - start_s_[k - 1]);
  return rounds * bits_.back() + bits_[k - 1] + share * (bits_[k] - bits_[k - 1]);
}

double UplinkTrace::TimeOf(double bits) const {
  const double rounds = std::floor(bits / bits_.back());
  const double rest = std::clamp(bits - rounds * bits_.back(), 0.0, bits_.back());
  if (rest == 0 && rounds > 0) {  // the end of a round, or of the last step in it that sends
    return (rounds - 1) * period_s() +
           start_s_[static_cast<size_t>(std::lower_bound(bits_.begin(), bits_.end(), bits_.back()) - bits_.begin())];
  }
  const auto k = static_cast<size_t>(std::lower_bound(bits_.begin(), bits_.end(), rest) - bits_.begin());
  if (k == 0) return rounds * period_s();
  return rounds * period_s() + start_s_[k - 1] +
         (rest - bits_[k - 1]) / (bits_[k] - bits_[k - 1]) * (start_s_[k] - start_s_[k - 1]);
}

}  // namespace goad::sched
