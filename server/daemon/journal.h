// Standard error as systemd's journal takes it: a priority before each line (sd-daemon(3)), and no time, which it has.
#ifndef GOAD_SERVER_DAEMON_JOURNAL_H_
#define GOAD_SERVER_DAEMON_JOURNAL_H_

#include <string>

namespace goad::server {

// Whether standard error goes to the journal (systemd.exec(5), $JOURNAL_STREAM).
bool IsJournal();

// The daemon's logger: to standard error, for the journal where it is one. Once, before anything is logged.
void LogToStandardError();

// What ends a start, to standard error: "goad: WHAT".
void Complain(const std::string& what);

}  // namespace goad::server

#endif  // GOAD_SERVER_DAEMON_JOURNAL_H_
