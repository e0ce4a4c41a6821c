"""What EZIO, the deployment tool of Clonezilla, publishes of itself: quoted, since it cannot be run side by side here."""

SOURCE = "github.com/tjjh89017/ezio, README.md at 9aedde38, 10 August 2026"
MIB_TO_GB = 1.048576e-3
# What, the figure, and on what.
EZIO = (
    ("one seed to one leech, both in memory, best", f"1046 MiB/s, {1046 * MIB_TO_GB:.2f} GB/s", "Xeon E5-2640 v4, 16 vCPUs"),
    ("one seed to one leech, both in memory, typical", f"1011 MiB/s, {1011 * MIB_TO_GB:.2f} GB/s", "Xeon E5-2640 v4, 16 vCPUs"),
    ("one seed to one leech, raw NVMe, 4 GB of cache", f"836 MB/s in, 536 MiB/s ({536 * MIB_TO_GB:.2f} GB/s) written", "two hosts"),
    ("one seed to three leeches, raw NVMe, 4 GB of cache", "375 MB/s each, about 1.1 GB/s together", "four hosts"),
)
