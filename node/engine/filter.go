package engine

import (
	"encoding/binary"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// The parts of nf_tables' interface that x/sys lacks (linux/netfilter/nf_tables.h).
const (
	filterName = "checkpoint-restore" // of the table
	filterRule = "loopback"           // of the chain
	// criuMark is what CRIU marks its own packets with, by which it brings back the end of a connection's direction
	// (https://github.com/checkpoint-restore/criu/blob/v4.2/soccr/soccr.h).
	criuMark = 0xc114
	// loopbackIndex is the number of the loopback device in every network namespace.
	loopbackIndex = 1
	verdictDrop   = 0 // NF_DROP
)

// filterLoopback drops all TCP that comes over the loopback device of a network namespace, but CRIU's own, or no more. CRIU sends what a
// socket had not sent yet as soon as that socket is there; without the other end, that would be answered by a reset.
func filterLoopback(network string, on bool) error {
	return inNamespace(network, unix.CLONE_NEWNET, func() error {
		err := changeTables(nftMessage(unix.NFT_MSG_DELTABLE, 0, attribute(unix.NFTA_TABLE_NAME, filterName+"\x00")))
		if errors.Is(err, unix.ENOENT) || !on && (errors.Is(err, unix.EPROTONOSUPPORT) || errors.Is(err, unix.EOPNOTSUPP)) {
			err = nil // there is none, or a kernel that can have none
		}
		if err != nil || !on {
			return err
		}
		hook := attribute(unix.NFTA_HOOK_HOOKNUM, word(unix.NF_INET_LOCAL_IN)) + attribute(unix.NFTA_HOOK_PRIORITY, word(0))
		expressions := compare(unix.NFT_META_IIF, unix.NFT_CMP_EQ, hostWord(loopbackIndex)) +
			compare(unix.NFT_META_L4PROTO, unix.NFT_CMP_EQ, string(rune(unix.IPPROTO_TCP))) +
			compare(unix.NFT_META_MARK, unix.NFT_CMP_NEQ, hostWord(criuMark)) + drop()
		return changeTables(
			nftMessage(unix.NFT_MSG_NEWTABLE, unix.NLM_F_CREATE, attribute(unix.NFTA_TABLE_NAME, filterName+"\x00")),
			nftMessage(unix.NFT_MSG_NEWCHAIN, unix.NLM_F_CREATE, attribute(unix.NFTA_CHAIN_TABLE, filterName+"\x00")+
				attribute(unix.NFTA_CHAIN_NAME, filterRule+"\x00")+nested(unix.NFTA_CHAIN_HOOK, hook)+attribute(unix.NFTA_CHAIN_TYPE, "filter\x00")),
			nftMessage(unix.NFT_MSG_NEWRULE, unix.NLM_F_CREATE|unix.NLM_F_APPEND, attribute(unix.NFTA_RULE_TABLE, filterName+"\x00")+
				attribute(unix.NFTA_RULE_CHAIN, filterRule+"\x00")+nested(unix.NFTA_RULE_EXPRESSIONS, expressions)),
		)
	})
}

// compare is an expression that goes on when a packet's property compares so with a value.
func compare(property, how uint32, value string) string {
	load := attribute(unix.NFTA_META_KEY, word(property)) + attribute(unix.NFTA_META_DREG, word(unix.NFT_REG_1))
	check := attribute(unix.NFTA_CMP_SREG, word(unix.NFT_REG_1)) + attribute(unix.NFTA_CMP_OP, word(how)) +
		nested(unix.NFTA_CMP_DATA, attribute(unix.NFTA_DATA_VALUE, value))
	return expression("meta", load) + expression("cmp", check)
}

// drop is an expression that ends the way of a packet.
func drop() string {
	verdict := nested(unix.NFTA_DATA_VERDICT, attribute(unix.NFTA_VERDICT_CODE, word(verdictDrop)))
	return expression("immediate", attribute(unix.NFTA_IMMEDIATE_DREG, word(unix.NFT_REG_VERDICT))+nested(unix.NFTA_IMMEDIATE_DATA, verdict))
}

func expression(name, data string) string {
	return nested(unix.NFTA_LIST_ELEM, attribute(unix.NFTA_EXPR_NAME, name+"\x00")+nested(unix.NFTA_EXPR_DATA, data))
}

// word is a number as nf_tables takes it, hostWord one as a packet's property has it.
func word(value uint32) string { return string(binary.BigEndian.AppendUint32(nil, value)) }

func hostWord(value uint32) string { return string(binary.NativeEndian.AppendUint32(nil, value)) }

// attribute is a netlink attribute, padded to 4 bytes, and nested one that holds others.
func attribute(kind uint16, value string) string {
	out := binary.NativeEndian.AppendUint16(nil, uint16(unix.SizeofRtAttr+len(value)))
	out = append(binary.NativeEndian.AppendUint16(out, kind), value...)
	for len(out)%4 != 0 {
		out = append(out, 0)
	}
	return string(out)
}

func nested(kind uint16, attributes string) string {
	return attribute(kind|unix.NLA_F_NESTED, attributes)
}

// nftMessage is a change of a table of packets of both families, to be answered.
func nftMessage(kind, flags uint16, attributes string) []byte {
	return netfilterMessage(unix.NFNL_SUBSYS_NFTABLES<<8|kind, flags|unix.NLM_F_ACK, unix.NFPROTO_INET, 0, attributes)
}

// netfilterMessage has a head of netlink and one of netfilter's (struct nfgenmsg), whose last field stands in the order of the network.
func netfilterMessage(kind, flags uint16, family byte, resource uint16, attributes string) []byte {
	out := binary.NativeEndian.AppendUint32(nil, uint32(unix.SizeofNlMsghdr+4+len(attributes)))
	out = binary.NativeEndian.AppendUint16(out, kind)
	out = binary.NativeEndian.AppendUint16(out, flags|unix.NLM_F_REQUEST)
	out = append(out, make([]byte, 8)...) // number and sender
	out = append(out, family, unix.NFNETLINK_V0)
	return append(binary.BigEndian.AppendUint16(out, resource), attributes...)
}

// changeTables makes all changes, or none.
func changeTables(changes ...[]byte) error {
	socket, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.NETLINK_NETFILTER)
	if err != nil {
		return err
	}
	defer unix.Close(socket)
	batch := netfilterMessage(unix.NFNL_MSG_BATCH_BEGIN, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, "")
	for _, change := range changes {
		batch = append(batch, change...)
	}
	batch = append(batch, netfilterMessage(unix.NFNL_MSG_BATCH_END, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, "")...)
	if err := unix.Sendto(socket, batch, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK}); err != nil {
		return err
	}
	answers := 0
	err = receive(socket, func(uint16, []byte) (bool, error) {
		answers++
		return answers == len(changes), nil
	})
	if err != nil {
		return fmt.Errorf("nf_tables: %w", err)
	}
	return nil
}
