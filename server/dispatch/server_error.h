// What went wrong with a request, and whose fault it was. Pure.
#ifndef GOAD_SERVER_DISPATCH_SERVER_ERROR_H_
#define GOAD_SERVER_DISPATCH_SERVER_ERROR_H_

#include <string>

namespace goad::server {

enum class Blame {
  kPrompt,         // the query's own: it fails, is tried nowhere else, and says nothing of the backend
  kConfiguration,  // what goad was told to ask for (key, path, model): another backend may be tried
  kBackend,        // another backend may be tried
  kBusy,           // full or still loading, and says so: another backend may be tried, this one has not failed
};

struct ServerError {
  Blame blame = Blame::kBackend;
  std::string code;   // a metric label of a closed set: a status, or what the transport met
  std::string words;  // the server's own where it has some; at most 300 bytes, printable, on one line
};

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_SERVER_ERROR_H_
