// Columns of text for people.
#ifndef GOAD_SERVER_CTL_TABLE_H_
#define GOAD_SERVER_CTL_TABLE_H_

#include <string>
#include <vector>

namespace goad::ctl {

// Rows under a heading, each column as wide as its widest cell. A heading that begins with '>' is set to the right, as
// its cells.
class Table {
 public:
  explicit Table(std::vector<std::string> headings) : headings_(std::move(headings)) {}
  void Add(std::vector<std::string> row);  // control characters are escaped
  std::string Text() const;

 private:
  std::vector<std::string> headings_;
  std::vector<std::vector<std::string>> rows_;
};

// "1.23 s", "4.56 ms", "789 us"; "-" when not finite.
std::string Duration(double seconds);

}  // namespace goad::ctl

#endif  // GOAD_SERVER_CTL_TABLE_H_
