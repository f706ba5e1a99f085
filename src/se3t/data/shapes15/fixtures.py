"""Classes of shapes15 other than furniture: bag, bin, box, display, door, pillow, sink, toilet. NumPy only.

Every function draws one object: standing on y = 0, its front towards +z. Sizes in metres are ordinary ones.
"""

from __future__ import annotations

from se3t.data.shapes15.solids import Dice, Mesh, Real, arc, box, case, cushion, join, loft, move, tube, turn


def bag(dice: Dice) -> Mesh:
    """A rucksack, a bag with handles, or a travelling bag; it leans or sags."""
    style = dice.pick("rucksack", "handles", "travelling")
    if style == "handles":
        return _carrier(dice)
    long = style == "travelling"
    width = dice.between(0.42, 0.7) if long else dice.between(0.26, 0.38)
    height = dice.between(0.22, 0.36) if long else dice.between(0.38, 0.58)
    depth = dice.between(0.22, 0.36) if long else dice.between(0.14, 0.26)
    parts = [cushion(width, height, depth, roundness=dice.between(2.2, 5), squareness=dice.between(2.2, 6))]
    for _ in range(dice.pick(0, 1, 2)):
        low, tall = dice.between(0.05, 0.35) * height, dice.between(0.25, 0.5) * height
        pocket = cushion(width * dice.between(0.5, 0.85), tall, depth * 0.4, 0.0, low, depth * 0.42)
        parts.append(pocket)
    if dice.chance(0.8):
        parts.append(tube(arc(width * dice.between(0.3, 0.9), height * dice.between(0.1, 0.4), y=height * 0.9), 0.012))
    if not long:
        for x in (-width / 4, width / 4):
            strap = turn(arc(height * 0.7, depth * dice.between(0.2, 0.6)), "z", 90)
            strap = turn(strap, "y", 90)
            parts.append(tube(move(strap, x, height / 2, -depth * 0.45), 0.015))
    return turn(join(parts), "x", dice.between(-20, 15))


def bin_(dice: Dice) -> Mesh:
    """A bucket, round or square, open, with a domed lid, or on wheels with a flap."""
    height, low = dice.between(0.25, 0.75), dice.between(0.1, 0.22)
    high, flat = low * dice.between(0.95, 1.4), dice.pick(1.0, dice.between(0.6, 1.0))
    square = dice.pick(2.0, 2.0, 4.0, 10.0)
    style = dice.pick("open", "open", "dome", "flap")
    outside = [(0.0, 0.0, 0.0), (0.0, low, low * flat), (height, high, high * flat)]
    if style == "open":
        rim, floor = high * 0.94, dice.between(0.05, 0.6) * height
        inside = [(height, rim, rim * flat), (floor, low * 0.95, low * 0.95 * flat), (floor, 0.0, 0.0)]
        parts = [loft([*outside, *inside], square)]
        if dice.chance(0.3):
            wide = high * 1.06
            parts.append(loft([(height - 0.04, high, high * flat), (height, wide, wide * flat)], square))
        return join(parts)
    if style == "dome":
        rise = dice.between(0.03, 0.5) * high
        levels = ((0.0, 1.04), (0.6, 0.8), (0.9, 0.4), (1.0, 0.0))
        dome = [(height + rise * up, high * out, high * out * flat) for up, out in levels]
        return join([loft([*outside, *dome], square), box(0.1, 0.03, 0.06, 0.0, 0.0, low * flat)])
    scale = dice.between(1.0, 1.6)
    lid = box(2.1 * high, 0.03, 2.1 * high * flat, y=height)
    lid = turn(lid, "x", dice.between(0, 20), (0.0, height, -high * flat))
    wheels = tube([(-low, 0.05, -low * flat), (low, 0.05, -low * flat)], 0.06)
    handle = tube([(-low, height, -high * flat - 0.05), (low, height, -high * flat - 0.05)], 0.015)
    return join([loft(outside, 8.0), lid, wheels, handle]) * scale


def box_(dice: Dice) -> Mesh:
    """A carton: closed, open with its flaps, a crate without lid, or two on top of each other."""
    width, height, depth = dice.between(0.2, 0.75), dice.between(0.12, 0.65), dice.between(0.2, 0.6)
    style = dice.pick("closed", "flaps", "flaps", "crate", "two")
    if style in ("closed", "two"):
        parts = [box(width, height, depth)]
        if style == "two":
            second = box(width * dice.between(0.5, 1.0), dice.between(0.1, 0.4), depth * dice.between(0.5, 1.0))
            parts.append(move(turn(second, "y", dice.between(-40, 40)), y=height))
        elif dice.chance(0.4):
            parts.append(box(width * 1.04, height * dice.between(0.1, 0.3), depth * 1.04, y=height * 0.8))
        return join(parts)
    parts = [case(width, height, depth, wall=0.012, lid=False, front=True)]
    if dice.chance(0.5):
        parts.append(box(width * 0.9, height * dice.between(0.2, 0.9), depth * 0.9))
    if style == "flaps":
        for side in (-1, 1):
            across = box(width, 0.008, depth / 2, 0.0, height, side * depth / 4)
            parts.append(turn(across, "x", side * dice.between(20, 230), (0.0, height, side * depth / 2)))
            along = box(width / 2, 0.008, depth, side * width / 4, height)
            parts.append(turn(along, "z", -side * dice.between(20, 230), (side * width / 2, height, 0.0)))
    return join(parts)


def display(dice: Dice) -> Mesh:
    """A flat screen on a foot, on two feet or without any, a tube monitor, or an open portable computer."""
    width = dice.pick(dice.between(0.35, 0.65), dice.between(0.7, 1.3))
    height, thick = width * dice.between(0.52, 0.8), dice.between(0.02, 0.07)
    style = dice.pick("foot", "foot", "feet", "panel", "tube", "portable")
    rise = 0.0 if style in ("panel", "portable") else dice.between(0.04, 0.18)
    screen = join([box(width, height, thick), case(width, height, 0.03, lid=True, back=False)])
    if dice.chance(0.5):
        screen = join([screen, box(width * 0.5, height * 0.5, 0.05, 0.0, height * 0.25, -thick / 2 - 0.02)])
    screen = move(turn(screen, "x", -dice.between(-5, 15)), y=rise)
    if style == "panel":
        return screen
    if style == "portable":
        return join([screen, box(width, 0.02, height, 0.0, 0.0, height / 2)])
    if style == "tube":
        back = [(0.0, width / 2, height / 2), (0.1, width / 2, height / 2), (width * 0.8, width / 4, height / 4)]
        body = turn(loft([(0.0, 0.0, 0.0), *back, (width * 0.8, 0.0, 0.0)], 8.0), "x", -90)
        return join([move(body, y=rise + height / 2), box(width * 0.5, rise, width * 0.5, z=-0.2)])
    if style == "feet":
        feet = [box(0.05, 0.02, dice.between(0.15, 0.3), side * width * 0.35) for side in (-1, 1)]
        return join([screen, *feet, *(box(0.03, rise, 0.03, side * width * 0.35) for side in (-1, 1))])
    neck = box(dice.between(0.04, 0.12), rise + height * 0.4, 0.04, z=-thick / 2 - 0.03)
    radius = width * dice.between(0.2, 0.35)
    foot = loft([(0, radius, radius * 0.7), (0.02, radius, radius * 0.7), (0.02, 0, 0)], dice.pick(2.0, 8.0))
    return join([screen, neck, foot])


def door(dice: Dice) -> Mesh:
    """One or two leaves, plain, with panels or glazed, with a frame, more or less open."""
    leaves, width, height = dice.pick(1, 1, 1, 2), dice.between(0.65, 1.0), dice.between(1.85, 2.2)
    thick, frame = dice.between(0.03, 0.06), dice.between(0.05, 0.12)
    total = leaves * width
    parts = []
    if dice.chance(0.8):
        for side in (-1, 1):
            parts.append(box(frame, height, 0.12, side * (total + frame) / 2))
        parts.append(box(total + 2 * frame, frame, 0.12, y=height))
    opening = dice.between(5, 85) if dice.chance(0.45) else 0.0
    for i in range(leaves):
        hinge = -1 if i == 0 else 1
        leaf = move(_leaf(dice, width, height, thick), -hinge * width / 2)
        angle = -hinge * opening if i == 0 or dice.chance(0.3) else 0.0
        parts.append(move(turn(leaf, "y", angle), hinge * total / 2))
    return join(parts)


def pillow(dice: Dice) -> Mesh:
    """A cushion with a sharp or a round rim or a bolster, lying, leaning, or two together."""
    parts = []
    for i in range(dice.pick(1, 1, 1, 2)):
        width, thick = dice.between(0.35, 0.7), dice.between(0.08, 0.24)
        depth = min(width, dice.between(0.3, 0.5))
        rim, square = dice.between(1.3, 3.0), dice.between(2.5, 8.0)
        if dice.chance(0.12):
            thick = depth = dice.between(0.14, 0.24)
            rim = square = 2.5
        one = cushion(width, thick, depth, roundness=rim, squareness=square)
        one = turn(one, "x", dice.pick(0.0, dice.between(0, 20), dice.between(50, 90)), (0.0, thick / 2, 0.0))
        one = turn(one, "z", dice.between(-12, 12))
        one = move(turn(one, "y", dice.between(-30, 30)), i * dice.between(-0.3, 0.3), i * thick * 0.8, i * 0.1)
        parts.append(one)
    return join(parts)


def sink(dice: Dice) -> Mesh:
    """A basin on a column, in a vanity, in a work top, or on the wall, with a tap."""
    width, depth = dice.between(0.4, 0.75), dice.between(0.35, 0.55)
    deep, thick = dice.between(0.1, 0.22), dice.between(0.02, 0.06)
    style = dice.pick("column", "vanity", "top", "wall")
    height = dice.between(0.75, 0.92)
    if style == "top":
        width, depth = width + dice.between(0.1, 0.6), depth + 0.1
    outline = dice.pick(2.5, 4.0, 10.0) if style in ("column", "wall") else 12.0
    hollow = dice.pick(2.0, 3.0, 8.0)
    part_x, part_z = (
        (dice.between(0.35, 0.75), 0.72) if style == "top" else (dice.between(0.75, 0.9), dice.between(0.7, 0.85))
    )
    a, b = width / 2, depth / 2
    under = height - deep - thick
    inner = [
        (height, part_x * a, part_z * b),
        (under + thick, 0.75 * part_x * a, 0.75 * part_z * b),
        (under + thick, 0, 0),
    ]
    if style in ("column", "wall"):
        outer = [(under, 0, 0), (under, 0.5 * a, 0.5 * b), (height - thick, a, b), (height, a, b)]
    else:
        outer = [(height - thick, 0, 0), (height - thick, a, b), (height - thick, a, b), (height, a, b)]
    parts = [loft([*outer, *inner], [outline] * 4 + [hollow] * 3)]
    if style == "column":
        radius = dice.between(0.07, 0.13)
        parts.append(
            loft([(0, radius * 1.3, radius * 1.3), (0.1, radius, radius), (under + 0.05, radius, radius)], 3.0)
        )
    elif style == "vanity":
        low = dice.pick(0.0, 0.12, 0.35)
        parts.append(box(width * 0.97, height - thick - low, depth * 0.95, y=low))
    if style == "top":
        parts.append(
            loft([(under, 0, 0), (under, 0.8 * part_x * a, 0.8 * part_z * b), (height, part_x * a, part_z * b)], hollow)
        )
    parts.append(_tap(dice, height, -part_z * b * 0.5 - b * 0.5))
    if dice.chance(0.3):
        parts.append(box(width, dice.between(0.05, 0.3), 0.03, 0.0, height, -b))
    lowest = 0.0 if style in ("column", "vanity") else float(join(parts)[..., 1].min())
    return move(join(parts), y=-lowest)


def toilet(dice: Dice) -> Mesh:
    """Bowl, seat and lid, with a cistern or hung on the wall."""
    height, wide, long = dice.between(0.36, 0.46), dice.between(0.17, 0.21), dice.between(0.2, 0.28)
    hung = dice.chance(0.2)
    low = height * 0.3 if hung else 0.0
    waist = dice.between(0.5, 0.8)
    outer = [(low, 0, 0), (low, wide * waist, long * waist), (low + 0.4 * (height - low), wide * waist, long * waist)]
    outer += [(height - 0.06, wide, long), (height, wide, long)]
    opened = dice.chance(0.5)
    hollow = [(height, wide * 0.68, long * 0.72), (height - 0.16, wide * 0.4, long * 0.4), (height - 0.18, 0, 0)]
    parts = [loft([*outer, *(hollow if opened else [(height, 0, 0)])], 2.2)]
    lid = loft([(0, 0, 0), (0, wide * 1.02, long), (0.03, wide * 1.02, long), (0.03, 0, 0)], 2.3)
    if opened and dice.chance(0.8):
        lid = turn(move(lid, z=long), "x", -dice.between(85, 105))
        parts.append(move(lid, y=height, z=-long))
    elif not opened:
        parts.append(move(lid, y=height))
    parts.append(box(wide * 1.3, height - low, 0.2, 0.0, low, -long))
    if not hung:
        tank, tall = dice.between(0.14, 0.22), dice.between(0.28, 0.42)
        cistern = cushion(dice.between(0.34, 0.48), tall, tank, roundness=12, squareness=dice.between(6, 12))
        parts.append(move(cistern, y=height - 0.02, z=-long - tank / 2))
    elif dice.chance(0.5):
        parts.append(box(0.5, dice.between(0.6, 0.8) + height, 0.12, z=-long - 0.12, y=0.0))
    return join(parts)


# --- parts --------------------------------------------------------------------------------------------------------


def _carrier(dice: Dice) -> Mesh:
    """A bag that is open at the top, with one handle or two."""
    width, height, depth = dice.between(0.25, 0.5), dice.between(0.25, 0.45), dice.between(0.08, 0.22)
    mouth, narrow = dice.between(0.75, 1.15), dice.between(0.2, 1.0)
    a, b = width / 2, depth / 2
    skin = [(0, 0, 0), (0, a, b), (height * 0.5, a * (1 + mouth) / 2, b), (height, a * mouth, b * narrow)]
    skin += [(height, a * mouth * 0.95, b * narrow * 0.9), (height * 0.5, a * 0.9, b * 0.8), (height * 0.4, 0, 0)]
    parts = [loft(skin, dice.between(3, 9))]
    rise = height * dice.between(0.2, 0.7)
    for side in dice.pick((0,), (-1, 1)):
        handle = turn(arc(width * dice.between(0.3, 0.7), rise, y=height), "x", dice.between(-30, 30), (0, height, 0))
        parts.append(tube(move(handle, z=side * b * narrow), 0.01))
    return turn(join(parts), "x", dice.between(-12, 12))


def _leaf(dice: Dice, width: Real, height: Real, thick: Real) -> Mesh:
    """Leaf of a door: a slab, a slab with raised panels, or a frame around glass, which scanners do not see."""
    style = dice.pick("plain", "panels", "glazed")
    if style == "glazed":
        glass, bottom, bar = dice.between(0.3, 0.8) * height, height * 0.95, 0.11
        parts = [box(width, bottom - glass, thick), box(width, height - bottom, thick, y=bottom)]
        for side in (-1, 1):
            parts.append(box(bar, glass, thick, side * (width - bar) / 2, bottom - glass))
    else:
        parts = [box(width, height, thick)]
    if style == "panels":
        rows = dice.pick(1, 2, 3)
        for row in range(rows):
            panel = box(width * 0.7, height / rows * 0.75, thick + 0.03, 0.0, height * (row + 0.12) / rows)
            parts.append(panel)
    place = dice.pick(-0.42, 0.42) * width
    for z in (-thick / 2 - 0.04, thick / 2 + 0.04):
        parts.append(box(0.12, 0.03, 0.03, place, height * 0.48, z))
    return join(parts)


def _tap(dice: Dice, height: Real, z: Real) -> Mesh:
    """A tap that bends forwards."""
    rise, reach = dice.between(0.08, 0.3), dice.between(0.08, 0.18)
    path = [(0, height, z), (0, height + rise, z), (0, height + rise, z + reach), (0, height + rise * 0.7, z + reach)]
    return tube(path, 0.015)
