// What a server can, on the wire: of a site for devices, of a backend for operators.
#ifndef GOAD_SERVER_WIRE_ABILITIES_H_
#define GOAD_SERVER_WIRE_ABILITIES_H_

#include "goad/v1/offload.pb.h"
#include "server/base/abilities.h"

namespace goad::server {

inline v1::Abilities::From ToWire(AbilityFrom from) {
  switch (from) {
    case AbilityFrom::kAssumed: return v1::Abilities::FROM_ASSUMED;
    case AbilityFrom::kServer: return v1::Abilities::FROM_SERVER;
    case AbilityFrom::kConfigured: return v1::Abilities::FROM_CONFIGURED;
  }
  return v1::Abilities::FROM_UNSPECIFIED;
}

inline v1::Abilities ToWire(const Abilities& abilities) {
  v1::Abilities wire;
  wire.set_chat(abilities.chat);
  wire.set_tools(abilities.tools);
  wire.set_tools_from(ToWire(abilities.tools_from));
  wire.set_images(abilities.images);
  wire.set_images_from(ToWire(abilities.images_from));
  wire.set_context_tokens(static_cast<uint32_t>(abilities.context_tokens));
  wire.set_context_from(ToWire(abilities.context_from));
  return wire;
}

}  // namespace goad::server

#endif  // GOAD_SERVER_WIRE_ABILITIES_H_
