// The server processes of wire_bench. Each prints its port as a line, and ends when its standard input does.
#ifndef GOAD_TESTS_BENCH_WIRE_SERVERS_H_
#define GOAD_TESTS_BENCH_WIRE_SERVERS_H_

#include <string>

namespace goad::server {

struct ServerOptions {
  double pace_s = 0;             // between two tokens of an answer; 0 = as fast as they are taken
  int source_port = 0;           // goad: of the LLM server behind it
  std::string certificate, key;  // PEM files; empty = plaintext
};

// A bare gRPC server of the same protocol: a Query without a prompt is answered LOCAL at once, one with its prompt by
// OFFLOAD, a Tokens frame per token and Completed. No reading, no deciding: what is left is gRPC.
int RunBare(const ServerOptions& options);

// The daemon, as it is deployed, with one site whose only backend is the source.
int RunGoad(const ServerOptions& options);

// An emulated LLM server: answers each POST with max_tokens events, a token each, on connections that are kept.
int RunSource(const ServerOptions& options);

}  // namespace goad::server

#endif  // GOAD_TESTS_BENCH_WIRE_SERVERS_H_
