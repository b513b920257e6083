// SPDX-License-Identifier: Apache-2.0
#include "http/client_address.h"

#include <gtest/gtest.h>

namespace sluice::http {
namespace {

TEST(TrustedProxies, WithoutAnyThePeerIsTheClient) {
  const TrustedProxies none({});
  EXPECT_EQ(none.client_of("192.0.2.1", std::nullopt), "192.0.2.1");
  EXPECT_EQ(none.client_of("192.0.2.1", "198.51.100.7"), "192.0.2.1") << "anybody can write that field";
  EXPECT_EQ(none.client_of("2001:db8::1", "198.51.100.7"), "2001:db8::1");
}

TEST(TrustedProxies, AreBelievedAboutTheirClients) {
  const TrustedProxies proxies({"127.0.0.1", "10.0.0.0/8", "::1", "2001:db8:1::/48"});
  for (const char* proxy : {"127.0.0.1", "10.1.2.3", "::1", "2001:db8:1:ffff::9", "::ffff:127.0.0.1"}) {
    EXPECT_EQ(proxies.client_of(proxy, "192.0.2.1"), "192.0.2.1") << proxy;
  }
  for (const char* stranger : {"127.0.0.2", "11.0.0.1", "::2", "2001:db8:2::1"}) {
    EXPECT_EQ(proxies.client_of(stranger, "192.0.2.1"), stranger);
  }
}

TEST(TrustedProxies, TakeTheLastAddressThatIsNotTheirs) {
  const TrustedProxies proxies({"10.0.0.0/8"});
  EXPECT_EQ(proxies.client_of("10.0.0.1", "198.51.100.7, 192.0.2.1"), "192.0.2.1") << "the client wrote the first";
  EXPECT_EQ(proxies.client_of("10.0.0.1", "192.0.2.1, 10.0.0.2 ,10.0.0.3"), "192.0.2.1");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "nonsense, 192.0.2.1"), "192.0.2.1");
}

TEST(TrustedProxies, LeaveTheClientUnknownWhenTheyDoNotSay) {
  const TrustedProxies proxies({"10.0.0.0/8"});
  EXPECT_EQ(proxies.client_of("10.0.0.1", std::nullopt), "");
  for (const char* field : {"", " ", ",", "unknown", "_hidden", "192.0.2.1, unknown", "192.0.2.1,", "192.0.2.256",
                            "192.0.2.1:80:80", "[", "[]", "[192", ":", "0x7f.1", "192.0.2.1/24"}) {
    EXPECT_EQ(proxies.client_of("10.0.0.1", field), "") << field;
  }
}

TEST(TrustedProxies, CountAClientBesideThemAsAClient) {
  const TrustedProxies proxies({"10.0.0.0/8"});
  EXPECT_EQ(proxies.client_of("10.0.0.1", "10.0.0.2"), "10.0.0.2") << "or no limit per address would hold it";
  EXPECT_EQ(proxies.client_of("10.0.0.1", "10.0.0.3, 10.0.0.2"), "10.0.0.3");
}

TEST(TrustedProxies, ReadAddressesWithPorts) {
  const TrustedProxies proxies({"10.0.0.0/8"});
  EXPECT_EQ(proxies.client_of("10.0.0.1", "192.0.2.1:4711"), "192.0.2.1");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "[2001:db8::1]:4711"), "2001:db8::1");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "[2001:db8::1]"), "2001:db8::1");
  EXPECT_EQ(proxies.client_of("10.0.0.1", "2001:db8::1"), "2001:db8::1");
}

TEST(TrustedProxies, SeeOneAddressInItsTwoForms) {
  const TrustedProxies none({});
  EXPECT_EQ(none.client_of("::ffff:192.0.2.1", std::nullopt), "192.0.2.1");
  const TrustedProxies mapped({"::ffff:10.0.0.1"});
  EXPECT_EQ(mapped.client_of("10.0.0.1", "192.0.2.1"), "192.0.2.1");
}

TEST(TrustedProxies, CountFromTheStartOfTheirNetwork) {
  const TrustedProxies proxies({"10.1.2.3/8", "0.0.0.0/33", "nonsense", "1.2.3.4/", "1.2.3.4/x", ""});
  EXPECT_EQ(proxies.client_of("10.200.0.1", "192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(proxies.client_of("1.2.3.4", "192.0.2.1"), "1.2.3.4") << "what is no range is left out";
  const TrustedProxies all({"0.0.0.0/0"});
  EXPECT_EQ(all.client_of("203.0.113.9", "192.0.2.1, 192.0.2.2"), "192.0.2.1");
}

TEST(TrustedProxies, DoNotKnowAPeerThatIsNoAddress) {
  EXPECT_EQ(TrustedProxies({}).client_of("", "192.0.2.1"), "");
  EXPECT_EQ(TrustedProxies({}).client_of("localhost", std::nullopt), "");
}

TEST(NetworkOf, IsAnIpv4AddressOrAnIpv6CustomersNetwork) {
  EXPECT_EQ(network_of("192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(network_of("::ffff:192.0.2.1"), "192.0.2.1");
  EXPECT_EQ(network_of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
  EXPECT_EQ(network_of("2001:db8:1:2::"), network_of("2001:db8:1:2:ffff::1"));
  EXPECT_NE(network_of("2001:db8:1:2::"), network_of("2001:db8:1:3::"));
  EXPECT_EQ(network_of(""), "");
  EXPECT_EQ(network_of("nonsense"), "");
}

}  // namespace
}  // namespace sluice::http
