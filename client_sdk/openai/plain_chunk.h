// The events that nearly every token of nearly every server comes in, read without building a document. Pure.
#ifndef GOAD_CLIENT_SDK_OPENAI_PLAIN_CHUNK_H_
#define GOAD_CLIENT_SDK_OPENAI_PLAIN_CHUNK_H_

#include <optional>
#include <string>

#include "client_sdk/openai/chunk.h"

namespace goad::openai {

// What ParseChunk would say of `data`, or nothing where that takes more than one choice with index 0 that has at most
// text, a finish_reason and thought, each as a string or null: usage, log-probabilities, tool calls, lists of parts,
// errors, and whatever is no strict JSON. Any thread.
std::optional<Chunk> ReadPlainChunk(const std::string& data);

}  // namespace goad::openai

#endif  // GOAD_CLIENT_SDK_OPENAI_PLAIN_CHUNK_H_
