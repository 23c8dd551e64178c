// --json: messages of admin.proto under the names of their fields, every field that is not within something absent,
// numbers as numbers (protobuf's own printer makes strings of 64-bit ones), enums by name.
#include "nlohmann/json.hpp"

#include <cmath>
#include <iostream>

#include "goad/v1/admin.pb.h"
#include "server/ctl/commands.h"

namespace goad::ctl {
namespace {

using google::protobuf::FieldDescriptor;
using google::protobuf::Message;
using google::protobuf::Reflection;
using nlohmann::ordered_json;

ordered_json ToJson(const Message& message);

ordered_json Number(double value) { return std::isfinite(value) ? ordered_json(value) : ordered_json(nullptr); }

// `index`: within a repeated field; -1 = it is not one.
ordered_json Value(const Message& m, const FieldDescriptor* f, int index) {
  const Reflection* r = m.GetReflection();
  const bool many = index >= 0;
  switch (f->cpp_type()) {
    case FieldDescriptor::CPPTYPE_INT32: return many ? r->GetRepeatedInt32(m, f, index) : r->GetInt32(m, f);
    case FieldDescriptor::CPPTYPE_INT64: return many ? r->GetRepeatedInt64(m, f, index) : r->GetInt64(m, f);
    case FieldDescriptor::CPPTYPE_UINT32: return many ? r->GetRepeatedUInt32(m, f, index) : r->GetUInt32(m, f);
    case FieldDescriptor::CPPTYPE_UINT64: return many ? r->GetRepeatedUInt64(m, f, index) : r->GetUInt64(m, f);
    case FieldDescriptor::CPPTYPE_DOUBLE: return Number(many ? r->GetRepeatedDouble(m, f, index) : r->GetDouble(m, f));
    case FieldDescriptor::CPPTYPE_FLOAT: return Number(many ? r->GetRepeatedFloat(m, f, index) : r->GetFloat(m, f));
    case FieldDescriptor::CPPTYPE_BOOL: return many ? r->GetRepeatedBool(m, f, index) : r->GetBool(m, f);
    case FieldDescriptor::CPPTYPE_STRING: return many ? r->GetRepeatedString(m, f, index) : r->GetString(m, f);
    case FieldDescriptor::CPPTYPE_MESSAGE:
      return ToJson(many ? r->GetRepeatedMessage(m, f, index) : r->GetMessage(m, f));
    case FieldDescriptor::CPPTYPE_ENUM: {
      const int number = many ? r->GetRepeatedEnumValue(m, f, index) : r->GetEnumValue(m, f);
      const auto* value = f->enum_type()->FindValueByNumber(number);
      return value == nullptr ? ordered_json(number) : ordered_json(value->name());  // of a newer goad
    }
  }
  return nullptr;
}

ordered_json ToJson(const Message& message) {
  ordered_json object = ordered_json::object();
  for (int k = 0; k < message.GetDescriptor()->field_count(); ++k) {
    const FieldDescriptor* field = message.GetDescriptor()->field(k);
    if (field->has_presence() && !message.GetReflection()->HasField(message, field)) continue;
    ordered_json& value = object[field->name()];
    if (!field->is_repeated()) {
      value = Value(message, field, -1);
      continue;
    }
    value = ordered_json::array();
    for (int i = 0; i < message.GetReflection()->FieldSize(message, field); ++i)
      value.push_back(Value(message, field, i));
  }
  return object;
}

std::string Text(const ordered_json& value, bool pretty) {
  return value.dump(pretty ? 1 : -1, ' ', false, ordered_json::error_handler_t::replace);
}

}  // namespace

std::string JsonText(const Message& message, bool pretty) { return Text(ToJson(message), pretty); }

std::string JsonText(const std::vector<std::string>& words) { return Text(words, false); }

void PrintJson(const Message& message, bool pretty) { std::cout << JsonText(message, pretty) << std::endl; }

}  // namespace goad::ctl
