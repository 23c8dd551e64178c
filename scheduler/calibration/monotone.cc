#include "scheduler/calibration/monotone.h"

#include <algorithm>
#include <tuple>

namespace goad::calibration {
namespace {

struct Level {
  double weight = 0, x_sum = 0, y_sum = 0;
  double x() const { return x_sum / weight; }
  double y() const { return y_sum / weight; }
};

void JoinLast(std::vector<Level>& levels) {
  const Level last = levels.back();
  levels.pop_back();
  levels.back().weight += last.weight;
  levels.back().x_sum += last.x_sum;
  levels.back().y_sum += last.y_sum;
}

}  // namespace

std::vector<Point> FitMonotone(std::vector<Sample> samples, double least_weight) {
  std::sort(samples.begin(), samples.end(), [](const Sample& a, const Sample& b) {
    return std::tie(a.x, a.y, a.weight) < std::tie(b.x, b.y, b.weight);
  });
  std::vector<Level> levels;
  for (size_t k = 0; k < samples.size();) {
    Level level;
    for (const double x = samples[k].x; k < samples.size() && samples[k].x == x; ++k) {
      level.weight += samples[k].weight;
      level.x_sum += samples[k].weight * x;
      level.y_sum += samples[k].weight * samples[k].y;
    }
    levels.push_back(level);
    while (levels.size() > 1 && levels[levels.size() - 2].y() >= levels.back().y()) JoinLast(levels);
  }
  std::vector<Level> heavy;  // joined means of rising levels rise still
  for (const Level& level : levels) {
    heavy.push_back(level);
    if (heavy.size() > 1 && heavy[heavy.size() - 2].weight < least_weight) JoinLast(heavy);
  }
  if (heavy.size() > 1 && heavy.back().weight < least_weight) JoinLast(heavy);
  std::vector<Point> points;
  for (const Level& level : heavy) {
    Point point{level.x(), level.y()};
    if (!points.empty()) {  // rounding of means
      if (point.x <= points.back().x) continue;
      point.y = std::max(point.y, points.back().y);
    }
    points.push_back(point);
  }
  return points;
}

double ValueAt(const std::vector<Point>& points, double x) {
  const auto next =
      std::upper_bound(points.begin(), points.end(), x, [](double at, const Point& p) { return at < p.x; });
  if (next == points.begin()) return points.front().y;
  if (next == points.end()) return points.back().y;
  const Point& left = *(next - 1);
  const double share = (x - left.x) / (next->x - left.x);
  return std::min(left.y + share * (next->y - left.y), next->y);
}

}  // namespace goad::calibration
