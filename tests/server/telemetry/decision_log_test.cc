#include "server/telemetry/decision_log.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <sstream>
#include <thread>

#include "gtest/gtest.h"
#include "nlohmann/json.hpp"
#include "prometheus/registry.h"

namespace goad::server {
namespace {

class DecisionLogTest : public ::testing::Test {
 protected:
  void SetUp() override {
    std::string pattern = (std::filesystem::temp_directory_path() / "goad-log-XXXXXX").string();
    ASSERT_NE(mkdtemp(pattern.data()), nullptr);
    folder_ = pattern;
    config_.path = folder_ + "/in/log.jsonl";
    config_.snapshot_every = 0;
    std::filesystem::create_directory(folder_ + "/in");
  }
  void TearDown() override {
    log_.reset();
    std::filesystem::remove_all(folder_);
  }
  void Open() {
    auto log = DecisionLog::Open(config_, &feed_, &metrics_);
    ASSERT_TRUE(log.ok()) << log.status();
    log_ = std::move(*log);
  }
  void Decide(const std::string& id) {
    auto record = std::make_shared<EpochRecord>();
    record->early = {{id, sched::Reason::kNoLink, 0.5, 0.5, 1, 1}};
    feed_.Publish(std::move(record));
  }
  std::string Text() const {
    std::ostringstream text;
    text << std::ifstream(config_.path).rdbuf();
    return text.str();
  }
  double Lost() const {
    for (const auto& family : metrics_.page()->Collect()) {
      if (family.name == "goad_decision_log_lost_total") return family.metric[0].counter.value;
    }
    return -1;
  }
  // The log looks once a second whether its file is there; decisions go on all the time.
  template <typename Condition>
  void DecideUntil(Condition condition) {
    for (int k = 0; k < 4000 && !condition(); ++k) {
      Decide("more");
      std::this_thread::sleep_for(std::chrono::milliseconds(5));  // between polls of another thread
    }
    EXPECT_TRUE(condition());
  }

  std::string folder_;
  DecisionLogConfig config_;
  EpochFeed feed_;
  Metrics metrics_{{{"a"}, {{"u"}}}};
  std::unique_ptr<DecisionLog> log_;
};

TEST_F(DecisionLogTest, AnOutcomeIsALineWithItsWallTime) {
  Open();
  OutcomeRecord outcome;
  outcome.query_id = "\xff q";  // whatever a device calls it
  outcome.site = "a";
  outcome.compute_s = 0.25;
  log_->Outcome(outcome);
  log_.reset();
  const auto line = nlohmann::json::parse(Text());
  EXPECT_EQ(line.at("kind"), "outcome");
  EXPECT_EQ(line.at("ended"), "failed");
  EXPECT_EQ(line.at("compute_s"), 0.25);
  EXPECT_TRUE(line.at("upload_s").is_null());
  EXPECT_EQ(line.at("time").get<std::string>().size(), std::string("2026-01-01T00:00:00.000Z").size());
  EXPECT_EQ(Lost(), 0);
}

// Far more than wait for the disk at most: each is a line or counted.
TEST_F(DecisionLogTest, OutcomesThatTheDiskCannotKeepUpWithAreCounted) {
  Open();
  constexpr int kAtOnce = 100000;
  OutcomeRecord outcome;
  outcome.site = "a";
  for (int k = 0; k < kAtOnce; ++k) log_->Outcome(outcome);
  log_.reset();
  const std::string text = Text();
  EXPECT_EQ(static_cast<double>(std::count(text.begin(), text.end(), '\n')) + Lost(), kAtOnce) << Lost() << " lost";
  EXPECT_GE(std::count(text.begin(), text.end(), '\n'), 16384) << "what waits is written";
}

TEST_F(DecisionLogTest, ADecisionSaysWhatItsUncertaintyIs) {
  Open();
  auto record = std::make_shared<EpochRecord>();
  LocalModel model{"small-1b", {UncertaintyMetric::kLowQuantile, 16, 10, "", "chat"}};
  LocalModel declared{"", {UncertaintyMetric::kDeclared, 0, 0, "vote-5", ""}};
  record->snapshot.candidates.resize(1);
  record->result.decisions.resize(1);
  record->query_ids = {"a"};
  record->held = {false};
  record->askers = {{"token of acme/device d", "acme", "4bf92f3577b34da6a3ce929d0e0e4736"}};
  record->models = {std::make_shared<const LocalModel>(model)};
  record->uncertainties = {record->snapshot.candidates[0].uncertainty};
  record->early = {{"b", sched::Reason::kNoLink, 0.5, 0.5, 1, 1, std::make_shared<const LocalModel>(declared)},
                   {"c", sched::Reason::kNoLink, 0.5, 0.5, 1, 1, nullptr, {"other", "default", ""}}};
  feed_.Publish(std::move(record));
  log_.reset();
  std::istringstream lines(Text());
  std::vector<nlohmann::json> read;
  for (std::string line; std::getline(lines, line);) read.push_back(nlohmann::json::parse(line));
  ASSERT_EQ(read.size(), 3u);
  EXPECT_EQ(read[0].at("query_id"), "a");
  EXPECT_EQ(read[0].at("device"), "token of acme/device d");
  EXPECT_EQ(read[0].at("tenant"), "acme");
  EXPECT_EQ(read[0].at("trace_id"), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(read[2].at("device"), "other");
  EXPECT_FALSE(read[2].contains("trace_id"));
  for (const auto& line : read) EXPECT_EQ(line.at("time").get<std::string>().size(), 24u) << line;
  EXPECT_EQ(read[0].at("metric"), "LOW_QUANTILE");
  EXPECT_EQ(read[0].at("model"), "small-1b");
  EXPECT_EQ(read[0].at("uncertainty_tokens"), 16);
  EXPECT_EQ(read[0].at("uncertainty_candidates"), 10);
  EXPECT_EQ(read[0].at("prompt_form"), "chat");
  EXPECT_FALSE(read[0].contains("uncertainty_method"));
  EXPECT_EQ(read[1].at("metric"), "DECLARED");
  EXPECT_EQ(read[1].at("uncertainty_method"), "vote-5");
  EXPECT_EQ(read[2].at("metric"), "MARGIN");
  EXPECT_FALSE(read[2].contains("model"));
}

TEST_F(DecisionLogTest, BeginsAgainWhenItsFolderIsBack) {
  Open();
  Decide("first");
  DecideUntil([&] { return Text().find("\"first\"") != std::string::npos; });
  std::filesystem::remove_all(folder_ + "/in");
  DecideUntil([&] { return Lost() > 0; });
  std::filesystem::create_directory(folder_ + "/in");
  DecideUntil([&] { return Text().find("\"more\"") != std::string::npos; });
  const double lost = Lost();
  DecideUntil([&] { return Text().size() > 10000; });
  EXPECT_EQ(Lost(), lost);
}

TEST_F(DecisionLogTest, AFileThatWasMovedAwayIsBegunAnew) {
  Open();
  DecideUntil([&] { return !Text().empty(); });
  std::filesystem::rename(config_.path, config_.path + ".old");
  DecideUntil([&] { return !Text().empty(); });
  EXPECT_EQ(Lost(), 0);
}

TEST_F(DecisionLogTest, AFullDiskIsCountedAndAFifoIsRefused) {
  ASSERT_EQ(mkfifo((folder_ + "/fifo").c_str(), 0600), 0);
  config_.path = folder_ + "/fifo";
  EXPECT_FALSE(DecisionLog::Open(config_, &feed_, &metrics_).ok());
  config_.path = folder_;
  EXPECT_FALSE(DecisionLog::Open(config_, &feed_, &metrics_).ok());
  config_.path = "/dev/full";
  Open();
  DecideUntil([&] { return Lost() > 10; });
}

TEST_F(DecisionLogTest, RotatesBySize) {
  config_.max_size_bytes = 4096;
  config_.max_files = 3;
  Open();
  DecideUntil([&] { return std::filesystem::exists(config_.path + ".2"); });
  log_.reset();
  EXPECT_FALSE(std::filesystem::exists(config_.path + ".3"));
  EXPECT_LE(std::filesystem::file_size(config_.path + ".1"), 4096u);
}

}  // namespace
}  // namespace goad::server
