#include "scheduler/sim/chart.h"

#include <algorithm>
#include <cmath>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_replace.h"

namespace goad::sched {
namespace {

constexpr double kWidth = 760, kHeight = 420, kLeft = 66, kRight = 600, kTop = 44, kBottom = 368;
constexpr double kLabelGap = 17;

// Okabe and Ito's colours, told apart by colour-blind readers too.
constexpr const char* kColours[] = {"#0072b2", "#d55e00", "#009e73", "#999999",
                                    "#cc79a7", "#56b4e9", "#222222", "#e69f00"};

struct Axis {
  double low = 0, high = 1;
  std::vector<double> ticks;
};

Axis MakeAxis(double low, double high, bool logarithmic) {
  Axis axis;
  if (logarithmic) {
    axis.low = std::floor(std::log10(low));
    axis.high = std::max(axis.low + 1, std::ceil(std::log10(high)));
    for (double tick = axis.low; tick <= axis.high + 1e-9; ++tick) axis.ticks.push_back(tick);
    return axis;
  }
  if (high - low < 1e-12 * std::max(1.0, std::abs(high))) low -= 0.5, high += 0.5;
  double step = std::pow(10, std::floor(std::log10((high - low) / 5)));
  for (const double factor : {1.0, 2.0, 5.0, 10.0}) {
    if ((high - low) / (step * factor) > 7) continue;
    step *= factor;
    break;
  }
  axis.low = step * std::floor(low / step + 1e-9);
  axis.high = step * std::ceil(high / step - 1e-9);
  for (double tick = axis.low; tick < axis.high + step / 2; tick += step) axis.ticks.push_back(tick);
  return axis;
}

std::string TickText(double value, bool logarithmic) {
  return logarithmic ? absl::StrFormat("%.6g", std::pow(10, value))
                     : absl::StrFormat("%.6g", std::abs(value) < 1e-12 ? 0 : value);
}

}  // namespace

std::string XmlText(const std::string& text) {
  return absl::StrReplaceAll(text, {{"&", "&amp;"}, {"<", "&lt;"}, {">", "&gt;"}, {"\"", "&quot;"}});
}

std::string ChartSvg(const Chart& chart, const std::vector<std::string>& colour_order) {
  double x_low = INFINITY, x_high = -INFINITY, y_low = INFINITY, y_high = -INFINITY;
  for (const Series& series : chart.series) {
    for (size_t k = 0; k < series.points.size(); ++k) {
      const double half = series.half_width.empty() ? 0 : series.half_width[k];
      x_low = std::min(x_low, series.points[k].first);
      x_high = std::max(x_high, series.points[k].first);
      y_low = std::min(y_low, series.points[k].second - half);
      y_high = std::max(y_high, series.points[k].second + half);
    }
  }
  const Axis x_axis = MakeAxis(x_low, x_high, false), y_axis = MakeAxis(y_low, y_high, chart.log_y);
  const auto X = [&](double x) { return kLeft + (x - x_axis.low) / (x_axis.high - x_axis.low) * (kRight - kLeft); };
  const auto Y = [&](double y) {
    if (chart.log_y) y = std::log10(y);
    return kBottom - (y - y_axis.low) / (y_axis.high - y_axis.low) * (kBottom - kTop);
  };
  std::string svg = absl::StrFormat(
      "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %g %g\" role=\"img\" aria-label=\"%s\" "
      "font-family=\"system-ui, sans-serif\" font-size=\"13\" fill=\"#222\">\n"
      "<rect width=\"%g\" height=\"%g\" fill=\"#fff\"/>\n<text x=\"%g\" y=\"22\" font-size=\"16\" "
      "font-weight=\"600\">%s</text>\n",
      kWidth, kHeight, XmlText(chart.title), kWidth, kHeight, kLeft, XmlText(chart.title));
  for (const double tick : y_axis.ticks) {
    const double y = kBottom - (tick - y_axis.low) / (y_axis.high - y_axis.low) * (kBottom - kTop);
    absl::StrAppendFormat(&svg,
                          "<path d=\"M%g %.1fH%g\" stroke=\"#e4e4e4\"/><text x=\"%g\" y=\"%.1f\" text-anchor=\"end\" "
                          "fill=\"#666\">%s</text>\n",
                          kLeft, y, kRight, kLeft - 8, y + 4, TickText(tick, chart.log_y));
  }
  for (const double tick : x_axis.ticks) {
    absl::StrAppendFormat(&svg,
                          "<path d=\"M%.1f %gv5\" stroke=\"#888\"/><text x=\"%.1f\" y=\"%g\" text-anchor=\"middle\" "
                          "fill=\"#666\">%s</text>\n",
                          X(tick), kBottom, X(tick), kBottom + 20, TickText(tick, false));
  }
  absl::StrAppendFormat(&svg, "<path d=\"M%g %gH%g\" stroke=\"#888\"/>\n", kLeft, kBottom, kRight);
  absl::StrAppendFormat(&svg, "<text x=\"%g\" y=\"%g\" text-anchor=\"middle\">%s</text>\n", (kLeft + kRight) / 2,
                        kHeight - 10, XmlText(chart.x_label));
  absl::StrAppendFormat(&svg, "<text transform=\"translate(16 %g) rotate(-90)\" text-anchor=\"middle\">%s</text>\n",
                        (kTop + kBottom) / 2, XmlText(chart.y_label));
  struct Label {
    double y = 0, from_x = 0, from_y = 0;
    std::string name, colour;
  };
  std::vector<Label> labels;
  for (const Series& series : chart.series) {
    const auto place = std::find(colour_order.begin(), colour_order.end(), series.name) - colour_order.begin();
    const std::string colour = kColours[static_cast<size_t>(place) % std::size(kColours)];
    std::string path, dots;
    for (size_t k = 0; k < series.points.size(); ++k) {
      const double x = X(series.points[k].first), y = Y(series.points[k].second);
      absl::StrAppendFormat(&path, "%s%.1f %.1f", k == 0 ? "M" : "L", x, y);
      absl::StrAppendFormat(
          &dots, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"><title>%s: %.6g, %.6g</title></circle>", x, y,
          colour, XmlText(series.name), series.points[k].first, series.points[k].second);
      if (!series.half_width.empty()) {
        absl::StrAppendFormat(&dots, "<path d=\"M%.1f %.1fV%.1f\" stroke=\"%s\" stroke-opacity=\".5\"/>", x,
                              Y(series.points[k].second - series.half_width[k]),
                              Y(series.points[k].second + series.half_width[k]), colour);
      }
      if (!series.marks.empty()) {
        absl::StrAppendFormat(&dots, "<text x=\"%.1f\" y=\"%.1f\" font-size=\"10\" fill=\"#555\">%s</text>", x + 5,
                              y - 5, XmlText(series.marks[k]));
      }
    }
    absl::StrAppendFormat(&svg, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>%s\n", path, colour,
                          dots);
    const auto [last_x, last_y] = series.points.back();
    labels.push_back({Y(last_y), X(last_x), Y(last_y), series.name, colour});
  }
  std::sort(labels.begin(), labels.end(), [](const Label& a, const Label& b) { return a.y < b.y; });
  for (size_t k = 1; k < labels.size(); ++k) labels[k].y = std::max(labels[k].y, labels[k - 1].y + kLabelGap);
  double lowest = kBottom;  // and back up from the bottom, where they were pushed out
  for (size_t k = labels.size(); k-- > 0; lowest -= kLabelGap) labels[k].y = std::min(labels[k].y, lowest);
  for (const Label& label : labels) {
    absl::StrAppendFormat(
        &svg,
        "<path d=\"M%.1f %.1fL%g %.1f\" stroke=\"%s\" stroke-width=\".7\" stroke-dasharray=\"2 2\" fill=\"none\"/>"
        "<text x=\"%g\" y=\"%.1f\" fill=\"%s\" font-weight=\"600\">%s</text>\n",
        label.from_x + 4, label.from_y, kRight + 18, label.y, label.colour, kRight + 22, label.y + 4, label.colour,
        XmlText(label.name));
  }
  return svg + "</svg>\n";
}

}  // namespace goad::sched
