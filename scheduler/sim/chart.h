// Line charts as SVG: lines named at their right end, so that nobody has to hunt through a legend.
#ifndef GOAD_SCHEDULER_SIM_CHART_H_
#define GOAD_SCHEDULER_SIM_CHART_H_

#include <string>
#include <utility>
#include <vector>

namespace goad::sched {

struct Series {
  std::string name;
  std::vector<std::pair<double, double>> points;  // drawn in this order; at least one
  std::vector<double> half_width;                 // of an interval around each y; empty = none
  std::vector<std::string> marks;                 // a word beside each point; empty = none
};

struct Chart {
  std::string title, x_label, y_label;
  std::vector<Series> series;
  bool log_y = false;
};

// A self-contained <svg> element, 760 x 420. A series keeps its colour in every chart by its name's place in
// `colour_order`.
std::string ChartSvg(const Chart& chart, const std::vector<std::string>& colour_order);

// With &, <, > and quotes escaped.
std::string XmlText(const std::string& text);

}  // namespace goad::sched

#endif  // GOAD_SCHEDULER_SIM_CHART_H_
