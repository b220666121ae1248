"""Writes crates/drivers/src/wire/golden.json: packets as the makers' own programs build them.

    python -m venv venv && venv/bin/pip install feetech-servo-sdk==1.0.0 dynamixel-sdk==4.1.0
    venv/bin/python scripts/make_wire_golden.py
"""

import json
import random
from pathlib import Path

import dynamixel_sdk as dxl
import scservo_sdk as scs


class Port:
    """Takes what is sent and answers nothing."""

    def __init__(self):
        self.is_using = False
        self.sent = []

    def clearPort(self):
        pass

    def getBaudRate(self):
        return 1_000_000

    def writePort(self, packet):
        self.sent = list(packet)
        return len(packet)

    def readPort(self, length):
        return []

    def setPacketTimeout(self, length):
        pass

    setPacketTimeoutMillis = setPacketTimeout

    def isPacketTimeout(self):
        return True


def feetech(protocol, packets):
    port = Port()
    handler = scs.PacketHandler(protocol)

    def note(operation, **about):
        packets.append({"protocol": f"feetech {protocol}", "operation": operation, **about, "hex": bytes(port.sent).hex()})
        port.is_using = False

    handler.ping(port, 6)
    note("ping", id=6)
    handler.readTx(port, 1, 56, 2)
    note("read", id=1, address=56, len=2)
    for value in [0, 2048, 0x1234, 0xFFFF]:
        handler.write2ByteTxOnly(port, 3, 42, value)
        note("write", id=3, address=42, value=value, len=2)
    handler.write1ByteTxOnly(port, 254, 40, 0)
    note("write", id=254, address=40, value=0, len=1)
    handler.regWriteTxOnly(port, 2, 42, 2, [1, 8])
    note("reg_write", id=2, address=42, data=[1, 8])
    handler.action(port, 254)
    note("action", id=254)
    if protocol == 0:
        read = scs.GroupSyncRead(port, handler, 56, 2)
        for motor in range(1, 7):
            read.addParam(motor)
        read.txPacket()
        note("sync_read", address=56, len=2, ids=list(range(1, 7)))
    write = scs.GroupSyncWrite(port, handler, 42, 2)
    frames = [[motor, [scs.SCS_LOBYTE(value), scs.SCS_HIBYTE(value)]] for motor, value in enumerate([0, 1024, 2048, 4095, 255, 65535], 1)]
    for motor, data in frames:
        write.addParam(motor, data)
    write.txPacket()
    note("sync_write", address=42, len=2, frames=frames)


def dynamixel(packets):
    port = Port()
    handler = dxl.PacketHandler(2.0)

    def note(operation, **about):
        # dynamixel_sdk 3.8 and 4.1 in Python forget to send what they have stuffed (txPacket drops what addStuffing
        # returns), so that is done here, with its own functions. Changes nothing where nothing needs it.
        packet = handler.addStuffing(list(port.sent))
        crc = handler.updateCRC(0, packet, len(packet) - 2)
        sent = [*packet[:-2], crc & 255, crc >> 8]
        packets.append({"protocol": "dynamixel 2", "operation": operation, **about, "hex": bytes(sent).hex()})
        port.is_using = False

    handler.ping(port, 16)
    note("ping", id=16)
    handler.broadcastPing(port)
    note("ping", id=254)
    handler.reboot(port, 3)
    note("reboot", id=3)
    handler.readTx(port, 1, 132, 4)
    note("read", id=1, address=132, len=4)
    handler.write1ByteTxOnly(port, 254, 64, 0)
    note("write", id=254, address=64, value=0, len=1)
    for value in [0, 2048, 0xFFFFFFFF, 0x00FDFFFF, 0xFDFFFF00]:
        handler.write4ByteTxOnly(port, 11, 116, value)
        note("write", id=11, address=116, value=value, len=4)
    handler.regWriteTxOnly(port, 2, 116, 4, [255, 255, 253, 0])
    note("reg_write", id=2, address=116, data=[255, 255, 253, 0])
    handler.action(port, 254)
    note("action", id=254)
    ids = [11, 12, 13, 14, 15, 16]
    read = dxl.GroupSyncRead(port, handler, 132, 4)
    for motor in ids:
        read.addParam(motor)
    read.txPacket()
    note("sync_read", address=132, len=4, ids=ids)
    read.fastSyncReadTxPacket()
    note("fast_sync_read", address=132, len=4, ids=ids)
    write = dxl.GroupSyncWrite(port, handler, 116, 4)
    frames = [[motor, data] for motor, data in zip(ids, [[0, 8, 0, 0], [255, 255, 253, 0], [253, 255, 255, 253], [255] * 4, [0] * 4, [1, 2, 3, 4]])]
    for motor, data in frames:
        write.addParam(motor, data)
    write.txPacket()
    note("sync_write", address=116, len=4, frames=frames)
    blocks = [[1, 132, 4], [2, 146, 1], [3, 0x0102, 2]]
    bulk = dxl.GroupBulkRead(port, handler)
    for block in blocks:
        bulk.addParam(*block)
    bulk.txPacket()
    note("bulk_read", blocks=blocks)
    bulk.fastBulkReadTxPacket()
    note("fast_bulk_read", blocks=blocks)

    # Answers, stuffed and signed by the library's own functions.
    rng = random.Random(1)
    for _ in range(40):
        motor, error = rng.randrange(253), rng.choice([0, 0, 128, 7, 135])
        data = [rng.choice([255, 255, 253, 253, 0, rng.randrange(256)]) for _ in range(rng.randrange(24))]
        port.sent = [0xFF, 0xFF, 0xFD, 0x00, motor, len(data) + 4, 0, 0x55, error, *data, 0, 0]
        note("status", id=motor, error=error, data=data)


def main():
    packets = []
    feetech(0, packets)
    feetech(1, packets)
    dynamixel(packets)
    path = Path(__file__).parent.parent / "crates/drivers/src/wire/golden.json"
    lines = ",\n".join(json.dumps(packet) for packet in packets)
    path.write_text(f"[\n{lines}\n]\n")
    print(f"{len(packets)} packets in {path.name}")


if __name__ == "__main__":
    main()
