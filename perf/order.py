"""In which order sides run: shuffled, by a seed that is told, so that no side always follows the same other one."""

import random


def add_option(parser):
    seed = random.SystemRandom().randrange(1 << 32)
    parser.add_argument("--order-seed", type=int, default=seed, metavar="N", help="repeats the order of an earlier run (default: any)")


def orders(sides, count, seed):
    """An order of all sides for each of `count` rounds: shuffled anew for every other one, and then backwards, so that
    what one leaves behind, or drift, befalls each side from both directions.
    """
    shuffler, order = random.Random(seed), []
    for number in range(count):
        order = order[::-1] if number % 2 else shuffler.sample(list(sides), len(sides))
        yield order
