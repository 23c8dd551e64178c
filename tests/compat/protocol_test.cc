// The protocol only grows: everything that data/compat/protocol-*.txt lists (what was there when it was written) is in
// the compiled descriptors still, with the same number, type, label, name in JSON and oneof; whatever else is there
// came on top.
#include <google/protobuf/descriptor.h>
#include <google/protobuf/descriptor.pb.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <set>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "goad/v1/admin.pb.h"
#include "goad/v1/offload.pb.h"
#include "goad/v1/planner.pb.h"
#include "gtest/gtest.h"

namespace goad {
namespace {

using google::protobuf::Descriptor;
using google::protobuf::DescriptorPool;
using google::protobuf::EnumDescriptor;
using google::protobuf::FieldDescriptor;
using google::protobuf::FileDescriptor;
using google::protobuf::FileDescriptorProto;
using google::protobuf::MethodDescriptor;
using google::protobuf::ServiceDescriptor;

constexpr const char* kFiles[] = {"goad/v1/offload.proto", "goad/v1/admin.proto", "goad/v1/planner.proto"};

// A line each, in the order of the file. The names of a message's fields and of an enum's values are unique, and so are
// their numbers: when a line of old is there still, nothing new has its name or its number.
class Listing {
 public:
  static std::set<std::string> Of(const std::vector<const FileDescriptor*>& files) {
    Listing listing;
    for (const FileDescriptor* file : files) listing.File(*file);
    return {listing.lines_.begin(), listing.lines_.end()};
  }
  static std::vector<std::string> InOrder(const std::vector<const FileDescriptor*>& files) {
    Listing listing;
    for (const FileDescriptor* file : files) listing.File(*file);
    return listing.lines_;
  }

 private:
  template <typename... Words>
  void Line(const Words&... words) {
    lines_.push_back(absl::StrCat(words...));
  }
  void File(const FileDescriptor& file) {
    Line("package ", file.package(), " syntax ", FileDescriptor::SyntaxName(file.syntax()));
    for (int i = 0; i < file.message_type_count(); ++i) Message(*file.message_type(i));
    for (int i = 0; i < file.enum_type_count(); ++i) Enum(*file.enum_type(i));
    for (int i = 0; i < file.service_count(); ++i) Service(*file.service(i));
  }
  void Message(const Descriptor& message) {
    Line("message ", message.full_name());
    for (int i = 0; i < message.field_count(); ++i) Field(*message.field(i));
    for (int i = 0; i < message.reserved_range_count(); ++i) {
      for (int n = message.reserved_range(i)->start; n < message.reserved_range(i)->end; ++n) {
        Line("reserved ", message.full_name(), " ", n);
      }
    }
    for (int i = 0; i < message.reserved_name_count(); ++i) {
      Line("reserved ", message.full_name(), " ", message.reserved_name(i));
    }
    for (int i = 0; i < message.nested_type_count(); ++i) Message(*message.nested_type(i));
    for (int i = 0; i < message.enum_type_count(); ++i) Enum(*message.enum_type(i));
  }
  void Field(const FieldDescriptor& field) {
    constexpr const char* kLabels[] = {"", "optional", "required", "repeated"};
    std::string type = field.type_name();
    if (field.message_type() != nullptr) absl::StrAppend(&type, " ", field.message_type()->full_name());
    if (field.enum_type() != nullptr) absl::StrAppend(&type, " ", field.enum_type()->full_name());
    Line("field ", field.full_name(), " = ", field.number(), " ", kLabels[field.label()], " ", type,
         field.has_presence() ? " presence" : "", field.is_packed() ? " packed" : "", " json ", field.json_name(),
         field.containing_oneof() == nullptr ? "" : absl::StrCat(" oneof ", field.containing_oneof()->name()));
  }
  void Enum(const EnumDescriptor& type) {
    Line("enum ", type.full_name());
    for (int i = 0; i < type.value_count(); ++i) {
      Line("value ", type.full_name(), " ", type.value(i)->name(), " = ", type.value(i)->number());
    }
    for (int i = 0; i < type.reserved_range_count(); ++i) {
      for (int n = type.reserved_range(i)->start; n <= type.reserved_range(i)->end; ++n) {
        Line("reserved ", type.full_name(), " ", n);
      }
    }
    for (int i = 0; i < type.reserved_name_count(); ++i)
      Line("reserved ", type.full_name(), " ", type.reserved_name(i));
  }
  void Service(const ServiceDescriptor& service) {
    Line("service ", service.full_name());
    for (int i = 0; i < service.method_count(); ++i) {
      const MethodDescriptor& method = *service.method(i);
      Line("method ", method.full_name(), " (", method.client_streaming() ? "stream " : "",
           method.input_type()->full_name(), ") returns (", method.server_streaming() ? "stream " : "",
           method.output_type()->full_name(), ")");
    }
  }

  std::vector<std::string> lines_;
};

// Two names for one number (allow_alias): a new value on a number that was used before.
std::vector<std::string> Aliases(const std::vector<const FileDescriptor*>& files) {
  std::vector<std::string> aliases;
  const auto look = [&](const EnumDescriptor& type) {
    std::set<int> numbers;
    for (int i = 0; i < type.value_count(); ++i) {
      if (!numbers.insert(type.value(i)->number()).second) aliases.push_back(type.value(i)->full_name());
    }
  };
  for (const FileDescriptor* file : files) {
    for (int i = 0; i < file->enum_type_count(); ++i) look(*file->enum_type(i));
    for (int i = 0; i < file->message_type_count(); ++i) {
      for (int k = 0; k < file->message_type(i)->enum_type_count(); ++k) look(*file->message_type(i)->enum_type(k));
    }
  }
  return aliases;
}

std::vector<const FileDescriptor*> Find(const DescriptorPool& pool) {
  std::vector<const FileDescriptor*> files;
  for (const char* name : kFiles) files.push_back(pool.FindFileByName(name));
  return files;
}

std::vector<const FileDescriptor*> Compiled() {
  // So that the linker keeps all three.
  v1::ServerFrame::descriptor();
  v1::StatusRequest::descriptor();
  v1::PlanRequest::descriptor();
  return Find(*DescriptorPool::generated_pool());
}

std::vector<std::string> LinesOf(const std::filesystem::path& path) {
  std::vector<std::string> lines;
  std::ifstream in(path);
  for (std::string line; std::getline(in, line);) {
    if (!line.empty() && line[0] != '#') lines.push_back(line);
  }
  return lines;
}

std::vector<std::filesystem::path> Recorded() {
  std::vector<std::filesystem::path> paths;
  for (const auto& entry : std::filesystem::directory_iterator(GOAD_TEST_DATA "/compat")) {
    const std::string name = entry.path().filename().string();
    if (name.rfind("protocol-", 0) == 0) paths.push_back(entry.path());
  }
  return paths;
}

std::vector<std::string> Missing(const std::vector<std::string>& then,
                                 const std::vector<const FileDescriptor*>& files) {
  const std::set<std::string> now = Listing::Of(files);
  std::vector<std::string> missing;
  for (const std::string& line : then) {
    if (now.count(line) == 0) missing.push_back(line);
  }
  return missing;
}

// GOAD_RECORD=FILE writes today's listing there: a new protocol-DATE.txt beside the old ones, never in their place.
TEST(Protocol, OnlyGrows) {
  const auto files = Compiled();
  for (const FileDescriptor* file : files) ASSERT_NE(file, nullptr);
  if (const char* path = std::getenv("GOAD_RECORD")) {
    std::ofstream out(path);
    for (const std::string& line : Listing::InOrder(files)) out << line << "\n";
    ASSERT_TRUE(out.flush());
  }
  ASSERT_FALSE(Recorded().empty());
  for (const auto& path : Recorded()) {
    const std::vector<std::string> then = LinesOf(path);
    EXPECT_GT(then.size(), 200u) << path;
    for (const std::string& line : Missing(then, files)) ADD_FAILURE() << path << ": gone or changed: " << line;
  }
  for (const std::string& alias : Aliases(files)) ADD_FAILURE() << alias << ": a number that was taken";
}

// The test itself notices what it is for, and lets pass what may come.
class ProtocolChange : public testing::Test {
 protected:
  ProtocolChange() {
    for (const FileDescriptor* file : Compiled()) file->CopyTo(&files_[file->name()]);
  }
  FileDescriptorProto& offload() { return files_["goad/v1/offload.proto"]; }
  google::protobuf::DescriptorProto& Message(const std::string& name) {
    for (auto& message : *offload().mutable_message_type()) {
      if (message.name() == name) return message;
    }
    ADD_FAILURE() << name;
    return *offload().add_message_type();
  }
  google::protobuf::FieldDescriptorProto& Field(const std::string& message, const std::string& name) {
    for (auto& field : *Message(message).mutable_field()) {
      if (field.name() == name) return field;
    }
    ADD_FAILURE() << name;
    return *Message(message).add_field();
  }
  // How many lines of the changed protocol's ancestor are gone.
  size_t Gone() {
    DescriptorPool pool;
    for (const char* name : kFiles) EXPECT_NE(pool.BuildFile(files_[name]), nullptr) << name;
    aliases_ = Aliases(Find(pool)).size();
    return Missing(Listing::InOrder(Compiled()), Find(pool)).size();
  }
  std::map<std::string, FileDescriptorProto> files_;
  size_t aliases_ = 0;
};

TEST_F(ProtocolChange, NoneIsNone) { EXPECT_EQ(Gone(), 0u); }

TEST_F(ProtocolChange, OfANumberIsNoticed) {
  Field("Decision", "epoch").set_number(99);
  EXPECT_EQ(Gone(), 1u);
}

TEST_F(ProtocolChange, OfATypeIsNoticed) {
  Field("Decision", "epoch").set_type(google::protobuf::FieldDescriptorProto::TYPE_SINT64);
  EXPECT_EQ(Gone(), 1u);
}

TEST_F(ProtocolChange, OfANameIsNoticed) {
  Field("Decision", "epoch").set_name("era");
  Field("Decision", "era").set_json_name("era");
  EXPECT_EQ(Gone(), 1u);
}

TEST_F(ProtocolChange, OfALabelIsNoticed) {
  Field("Goodbye", "message").set_label(google::protobuf::FieldDescriptorProto::LABEL_REPEATED);
  EXPECT_EQ(Gone(), 1u);
}

TEST_F(ProtocolChange, OutOfAOneofIsNoticed) {
  Field("Hello", "tx_power_dbm").clear_oneof_index();
  Message("Hello").clear_oneof_decl();
  EXPECT_EQ(Gone(), 1u);
}

TEST_F(ProtocolChange, OfAMethodIsNoticed) {
  offload().mutable_service(0)->mutable_method(1)->set_client_streaming(true);
  EXPECT_EQ(Gone(), 1u);
}

TEST_F(ProtocolChange, AReservedNumberMayNotComeBack) {
  // Nothing is reserved today; a listing of a time when something was, against a protocol that uses it.
  Message("Goodbye").add_reserved_name("gone");
  auto* range = Message("Goodbye").add_reserved_range();
  range->set_start(7);
  range->set_end(8);
  DescriptorPool pool;
  for (const char* name : kFiles) ASSERT_NE(pool.BuildFile(files_[name]), nullptr);
  const std::vector<std::string> then = Listing::InOrder(Find(pool));
  EXPECT_EQ(Missing(then, Compiled()).size(), 2u);
}

TEST_F(ProtocolChange, AnEnumValueMayNotGoNorShareItsNumber) {
  for (auto& type : *offload().mutable_enum_type()) {
    if (type.name() != "Reason") continue;
    type.mutable_value(3)->set_name("REASON_OTHER");
    type.mutable_options()->set_allow_alias(true);
    auto* alias = type.add_value();
    alias->set_name("REASON_ALIAS");
    alias->set_number(4);
  }
  EXPECT_EQ(Gone(), 1u);
  EXPECT_EQ(aliases_, 1u);
}

TEST_F(ProtocolChange, WhatComesOnTopIsWelcome) {
  auto* field = Message("DeviceFrame").add_field();
  field->set_name("future");
  field->set_json_name("future");
  field->set_number(1000);
  field->set_type(google::protobuf::FieldDescriptorProto::TYPE_STRING);
  field->set_label(google::protobuf::FieldDescriptorProto::LABEL_OPTIONAL);
  field->set_oneof_index(0);
  for (auto& type : *offload().mutable_enum_type()) {
    if (type.name() != "Reason") continue;
    auto* value = type.add_value();
    value->set_name("REASON_FUTURE");
    value->set_number(1000);
  }
  EXPECT_EQ(Gone(), 0u);
  EXPECT_EQ(aliases_, 0u);
}

}  // namespace
}  // namespace goad
