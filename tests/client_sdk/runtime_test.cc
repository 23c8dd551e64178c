// goad::Runtime's threads: a local model that is slow, throws, writes too much or will not stop, before a goad that is
// not there. The flow itself is in answer_flow_test, goad's part in integration/device_test.py.
#include "goad/runtime.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <future>
#include <thread>

#include "client_sdk/runtime/local_times.h"

namespace goad {
namespace {

using Source = Answer::Source;

Query Question() {
  Query query;
  query.prompt = "why?";
  return query;
}
AnswerPiece Piece(const std::string& text) {
  AnswerPiece piece;
  piece.text = text;
  return piece;
}

class RuntimeTest : public ::testing::Test {
 protected:
  RuntimeTest() {
    ClientOptions options;
    options.address = "unix:/nonexistent/goad.sock";
    options.asks_per_query = 1;
    client = Client::Connect(options);
  }
  std::unique_ptr<Client> client;
};

TEST_F(RuntimeTest, WithoutGoadTheLocalAnswerIsWhole) {
  Runtime runtime(client.get(), {});
  std::string shown;
  const Answer answer = runtime.Ask(
      Question(),
      [](LocalOutput& output) {
        for (const char* text : {"be", "cause"}) {
          output.Push(Piece(text));
          output.Uncertainty(0.9);
        }
        LocalEnd end;
        end.output_tokens = 2;
        return end;
      },
      [&](const AnswerPiece& piece) { shown += piece.text; });
  EXPECT_EQ(answer.source, Source::kLocal);
  EXPECT_EQ(answer.text, "because");
  EXPECT_EQ(shown, "because");
  EXPECT_EQ(answer.why_local, "UNREACHABLE");
  EXPECT_EQ(answer.output_tokens, 2);
  EXPECT_DOUBLE_EQ(answer.uncertainty, 0.9);
}

TEST_F(RuntimeTest, AModelThatThrowsIsAnAnswerThatFailed) {
  Runtime runtime(client.get(), {});
  const Answer answer =
      runtime.Ask(Question(), [](LocalOutput&) -> LocalEnd { throw std::runtime_error("out of memory"); });
  EXPECT_EQ(answer.source, Source::kNone);
  EXPECT_THAT(answer.detail, ::testing::HasSubstr("out of memory"));
}

TEST_F(RuntimeTest, WithoutALocalModelOnlyTheEdgeIsAsked) {
  Runtime runtime(client.get(), {});
  const Answer answer = runtime.Ask(Question(), nullptr);
  EXPECT_EQ(answer.source, Source::kNone);
  EXPECT_NE(answer.why_local, "");
}

// What blocks in a read is woken, and the answering waits for it to return.
TEST_F(RuntimeTest, CancelWakesAModelThatWaits) {
  Runtime runtime(client.get(), {});
  std::promise<void> waiting;
  std::atomic<bool> returned{false};
  auto answering = runtime.Begin(
      Question(),
      [&](LocalOutput& output) {
        std::promise<void> woken;
        output.OnUnwanted([&woken] { woken.set_value(); });
        waiting.set_value();
        woken.get_future().wait();
        EXPECT_FALSE(output.Push(Piece("late")));
        returned = true;
        return LocalEnd();
      },
      Route::kLocal);
  waiting.get_future().wait();
  std::thread([&] { answering->Cancel(); }).join();
  while (!answering->ended()) answering->Next(absl::Seconds(1));
  EXPECT_EQ(answering->answer().why_local, "CANCELLED");
  answering.reset();
  EXPECT_TRUE(returned);
}

TEST_F(RuntimeTest, AModelThatWritesFasterThanAnybodyReadsWaits) {
  Runtime runtime(client.get(), {});
  std::atomic<int> written{0};
  auto answering = runtime.Begin(
      Question(),
      [&](LocalOutput& output) {
        while (output.Push(Piece("x"))) ++written;
        return LocalEnd();
      },
      Route::kLocal);
  int last = -1;
  while (written != last || written < 1000) {  // until it stands still
    last = written;
    std::this_thread::yield();
    for (int k = 0; k < 1000 && written == last; ++k) std::this_thread::yield();
  }
  EXPECT_LE(written, 1025);
  answering.reset();
}

TEST_F(RuntimeTest, TheAnsweringMayGoAtAnyMoment) {
  Runtime runtime(client.get(), {});
  for (int k = 0; k < 200; ++k) {
    auto answering = runtime.Begin(Question(), [&](LocalOutput& output) {
      for (int t = 0; t < 50 && output.Push(Piece("x")); ++t) output.Uncertainty(0.5);
      return LocalEnd();
    });
    for (int n = 0; n < k % 7; ++n) answering->Next(absl::Milliseconds(1));
  }
}

TEST(LocalTimes, LearnsWhatATokenTakesAndHowManyComeOfAQuestion) {
  internal::LocalTimes times(0.030, 128);
  EXPECT_NEAR(times.Remaining(1, 0, 0), 127 * 0.030, 1e-9);
  EXPECT_NEAR(times.Remaining(1, 9, 0), 8 * 0.030, 1e-9) << "no more than the maximum";
  for (int k = 0; k < 200; ++k) times.Add(21, 0.010 * 20, k);
  EXPECT_NEAR(times.Remaining(1, 0, 200), 0.200, 0.020);
  EXPECT_NEAR(times.Remaining(11, 0, 200), 0.100, 0.015);
  EXPECT_NEAR(times.Remaining(500, 0, 200), 0, 0.001) << "longer than any before: it may end at once";
  // A minute later the estimate is gone, and the device is still the same.
  EXPECT_NEAR(times.Remaining(1, 0, 400), 0.200, 0.020);
}

TEST(LocalTimes, LearnsHowLongATokenOfAPromptIs) {
  internal::LocalTimes times(0.030, 128);
  EXPECT_EQ(times.PromptTokens(400), 100);
  EXPECT_EQ(times.PromptTokens(0), 1);
  for (int k = 0; k < 100; ++k) times.AddPrompt(250, 100);
  EXPECT_NEAR(times.PromptTokens(400), 160, 2);
}

TEST(LocalTimes, ForgetsALoadThatHasGone) {
  internal::LocalTimes times(0.010, 20);
  for (int k = 0; k < 100; ++k) times.Add(21, 0.010 * 20, k);
  for (int k = 0; k < 20; ++k) times.Add(21, 0.080 * 20, 100 + k);  // others use the processor
  EXPECT_GT(times.Remaining(1, 0, 120), 0.8);
  for (int k = 0; k < 20; ++k) times.Add(21, 0.010 * 20, 120 + k);
  EXPECT_LT(times.Remaining(1, 0, 140), 0.4);
}

}  // namespace
}  // namespace goad
