#include "server/ctl/table.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_format.h"
#include "server/base/clip.h"

namespace goad::ctl {

void Table::Add(std::vector<std::string> row) {
  for (std::string& cell : row)
    cell = server::Printable(cell);  // a device chose some of it: nothing for the terminal to obey
  rows_.push_back(std::move(row));
}

std::string Table::Text() const {
  std::vector<size_t> widths;
  std::vector<bool> right;
  std::vector<std::string> headings;
  for (const std::string& heading : headings_) {
    right.push_back(!heading.empty() && heading[0] == '>');
    headings.push_back(right.back() ? heading.substr(1) : heading);
    widths.push_back(headings.back().size());
  }
  for (const auto& row : rows_) {
    for (size_t k = 0; k < row.size(); ++k) widths[k] = std::max(widths[k], row[k].size());
  }
  std::string text;
  const auto line = [&](const std::vector<std::string>& cells) {
    std::string out;
    for (size_t k = 0; k < cells.size(); ++k) {
      const std::string blanks(widths[k] - cells[k].size(), ' ');
      out += (k > 0 ? "  " : "") + (right[k] ? blanks + cells[k] : cells[k] + blanks);
    }
    out.erase(out.find_last_not_of(' ') + 1);
    text += out + "\n";
  };
  line(headings);
  for (const auto& row : rows_) line(row);
  return text;
}

std::string Duration(double seconds) {
  if (!std::isfinite(seconds)) return "-";
  const double size = std::fabs(seconds);
  if (size >= 1) return absl::StrFormat("%.2f s", seconds);
  if (size >= 1e-3) return absl::StrFormat("%.2f ms", 1e3 * seconds);
  return absl::StrFormat("%.0f us", 1e6 * seconds);
}

}  // namespace goad::ctl
