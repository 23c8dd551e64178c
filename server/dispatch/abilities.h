// What a backend can: what its operator says, else what it says of itself, else what is assumed. Pure.
#ifndef GOAD_SERVER_DISPATCH_ABILITIES_H_
#define GOAD_SERVER_DISPATCH_ABILITIES_H_

#include <optional>
#include <string>
#include <vector>

#include "server/config/config.h"
#include "server/engine/events.h"

namespace goad::server {

// By the server itself; nullopt = it does not say.
struct SaidAbilities {
  std::optional<bool> tools, images;
  std::optional<int> context_tokens;  // 1..kMostContext
};

// Of what nobody says: tools are taken for there (a server without them refuses the request, which costs that query
// alone); images are not, because most models have no eyes, an image is the dearest of uploads, and some servers drop
// it and answer all the same. Without the chat API there are neither.
Abilities AbilitiesOf(const BackendConfig& config, const SaidAbilities& said);

bool Can(const Abilities& abilities, const sched::Needs& needs);

// Of servers that stand side by side: of each set of needs the longest context.
sched::Contexts ContextsOf(const std::vector<Abilities>& servers);

// "chat, tools (assumed), no images (server), context 4096 (server)"
std::string ToText(const Abilities& abilities);

}  // namespace goad::server

#endif  // GOAD_SERVER_DISPATCH_ABILITIES_H_
