// SPDX-License-Identifier: Apache-2.0
#include "demo/assets.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <iterator>
#include <set>
#include <string>

namespace sluice::demo {
namespace {

using ::testing::HasSubstr;

const std::filesystem::path kFolder = std::filesystem::path(SLUICE_SOURCE_DIR) / "src/demo";

std::string read(const std::filesystem::path& path) {
  std::ifstream file(path);
  return {std::istreambuf_iterator<char>(file), {}};
}

std::string field(const http::Response& response, std::string_view name) {
  for (const auto& [key, value] : response.fields) {
    if (key == name) return std::string(value);
  }
  return "(none)";
}

TEST(DemoAssets, AreTheFilesOfTheFolder) {
  std::set<std::string> kept;
  for (const Asset& asset : assets()) {
    EXPECT_EQ(asset.text, read(kFolder / asset.name)) << asset.name;
    kept.emplace(asset.name);
  }
  std::set<std::string> files;
  for (const auto& entry : std::filesystem::directory_iterator(kFolder)) {
    const std::filesystem::path extension = entry.path().extension();
    if (extension == ".html" || extension == ".css" || extension == ".js" || extension == ".svg") {
      files.insert(entry.path().filename());
    }
  }
  EXPECT_EQ(kept, files);
}

TEST(DemoAssets, LoadNothingFromElsewhere) {
  for (const Asset& asset : assets()) {
    std::string text(asset.text);
    for (const std::string_view name : {"http://www.w3.org/2000/svg"}) {  // of a language, not to be loaded
      for (std::size_t at; (at = text.find(name)) != std::string::npos;) text.erase(at, name.size());
    }
    EXPECT_EQ(text.find("http://"), std::string::npos) << asset.name;
    EXPECT_EQ(text.find("https://"), std::string::npos) << asset.name;
  }
}

TEST(DemoAssets, HaveNothingInline) {
  const std::string page(assets().front().text);
  for (const char* inlined : {"<style", " style=", "<script>", " onclick", " onload", "javascript:"}) {
    EXPECT_EQ(page.find(inlined), std::string::npos) << inlined << ", which the policy forbids";
  }
}

TEST(DemoAssets, ComeWithAStrictPolicy) {
  for (const Asset& asset : assets()) {
    const auto response = respond(asset.name, "");
    ASSERT_TRUE(response) << asset.name;
    EXPECT_EQ(response->status, 200);
    EXPECT_EQ(std::get<std::string>(response->body), asset.text);
    EXPECT_EQ(field(*response, "Content-Type"), asset.content_type);
    EXPECT_EQ(field(*response, "Cache-Control"), "no-cache");
    EXPECT_EQ(field(*response, "Referrer-Policy"), "no-referrer");
    EXPECT_EQ(field(*response, "Cross-Origin-Resource-Policy"), "same-origin");
    EXPECT_EQ(field(*response, "Cross-Origin-Opener-Policy"), "same-origin") << "who opened the page may not steer it";
    const std::string policy = field(*response, "Content-Security-Policy");
    for (const char* part : {"default-src 'none'; ", "script-src 'self'; ", "worker-src 'self'; ", "style-src 'self'; ",
                             "connect-src 'self'; ", "img-src 'self' blob:; ", "media-src 'self' blob:; ",
                             "base-uri 'none'; ", "form-action 'none'; ", "frame-ancestors 'none'"}) {
      EXPECT_THAT(policy, HasSubstr(part)) << asset.name;
    }
    EXPECT_EQ(policy.find("unsafe"), std::string::npos);
    EXPECT_EQ(field(*response, "Service-Worker-Allowed"), asset.name == "worker.js" ? "/_sluice/demo" : "(none)");
  }
}

TEST(DemoAssets, TheEmptyNameIsThePage) {
  const auto page = respond("", "");
  ASSERT_TRUE(page);
  EXPECT_EQ(field(*page, "Content-Type"), "text/html; charset=utf-8");
  EXPECT_THAT(std::get<std::string>(page->body), HasSubstr("<!doctype html>"));
}

TEST(DemoAssets, AreNotSentAgainToWhoHasThem) {
  std::set<std::string> tags;
  for (const Asset& asset : assets()) {
    const std::string tag = field(*respond(asset.name, ""), "ETag");
    tags.insert(tag);
    const auto again = respond(asset.name, "\"other\", " + tag);
    EXPECT_EQ(again->status, 304);
    EXPECT_EQ(std::get<std::string>(again->body), "");
    EXPECT_EQ(field(*again, "ETag"), tag);
    EXPECT_EQ(respond(asset.name, "\"other\"")->status, 200);
  }
  EXPECT_EQ(tags.size(), assets().size());
}

TEST(DemoAssets, ThereAreNoOthers) {
  for (const char* name : {"README.md", "assets.h", "index", "INDEX.HTML", "../demo.js", "demo.js/"}) {
    EXPECT_FALSE(respond(name, "")) << name;
  }
  EXPECT_FALSE(respond(std::string_view("demo.js\0", 8), ""));
  EXPECT_FALSE(respond(std::string_view("\0", 1), "")) << "that is no empty name";
}

}  // namespace
}  // namespace sluice::demo
