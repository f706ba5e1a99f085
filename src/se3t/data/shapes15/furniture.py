"""Classes of shapes15 that furnish a room: bed, cabinet, chair, desk, shelf, sofa, table. NumPy only.

Every function draws one object: standing on y = 0, its front towards +z. Sizes in metres are ordinary ones; styles
overlap on purpose: a small table is a large stool, a desk without drawers is a table, an armchair is a narrow sofa.
"""

from __future__ import annotations

import numpy as np

from se3t.data.shapes15.solids import Dice, Mesh, Real, box, case, cushion, join, legs, loft, move, tube, turn


def bed(dice: Dice) -> Mesh:
    """Mattress on a frame, legs or the floor; boards at its ends, pillows, a blanket, sometimes a bunk bed."""
    width, length = dice.pick(dice.between(0.8, 1.1), dice.between(1.2, 1.9)), dice.between(1.85, 2.2)
    clear = dice.pick(0.0, dice.between(0.1, 0.3))
    frame, mattress = dice.between(0.08, 0.25), dice.between(0.12, 0.3)
    top = clear + frame + mattress
    storey = [box(width, frame, length, y=clear)]
    storey += [cushion(width * 0.97, mattress, length * 0.97, y=clear + frame, roundness=8, squareness=12)]
    for i in range(dice.pick(0, 1, 2) if width < 1.2 else dice.pick(0, 2, 2)):
        x = 0.0 if width < 1.2 else (i - 0.5) * width / 2
        pillow = cushion(dice.between(0.45, 0.65), dice.between(0.1, 0.18), 0.4, x, top - 0.02, -length / 2 + 0.3)
        storey.append(turn(pillow, "y", dice.between(-15, 15), (x, top, -length / 2 + 0.3)))
    if dice.chance(0.5):
        share = dice.between(0.4, 0.75)
        thick = dice.between(0.05, 0.15)
        blanket = cushion(
            width * 1.04, thick, length * share, y=top - thick / 3, z=length * (1 - share) / 2, squareness=8
        )
        storey.append(blanket)
    parts = [join(storey)]
    bunk = width < 1.2 and dice.chance(0.2)
    if bunk:
        height = dice.between(1.4, 1.75)
        parts += [move(parts[0], y=height - top), legs(width, height + 0.3, length, 0.07)]
    elif clear:
        parts.append(legs(width * 0.94, clear, length * 0.94, 0.07))
    if dice.chance(0.75):
        parts.append(box(width * 1.03, top + dice.between(0.2, 0.7), 0.06, z=-length / 2))
    if dice.chance(0.3) and not bunk:
        parts.append(box(width * 1.03, top + dice.between(0.0, 0.25), 0.05, z=length / 2))
    return join(parts)


def cabinet(dice: Dice) -> Mesh:
    """A closed body with doors or drawers, handles, feet; sometimes a door stands open or a part has open boards."""
    width, height, depth = dice.pick(
        (dice.between(0.4, 0.7), dice.between(0.5, 0.9), dice.between(0.35, 0.55)),
        (dice.between(0.8, 1.6), dice.between(0.6, 1.0), dice.between(0.35, 0.55)),
        (dice.between(0.6, 1.4), dice.between(1.5, 2.1), dice.between(0.4, 0.65)),
        (dice.between(0.4, 0.5), dice.between(0.7, 1.4), dice.between(0.5, 0.7)),
    )
    foot = dice.pick(0.0, dice.between(0.05, 0.18))
    opened = dice.between(0.3, 0.6) if dice.chance(0.25) else 0.0  # share of the height with open boards
    closed = (height - foot) * (1.0 - opened)
    columns = max(1, round(width / dice.between(0.35, 0.6)))
    rows = dice.pick(1, max(1, round(closed / dice.between(0.18, 0.4))))
    parts = [box(width, closed, depth, y=foot), _fronts(dice, width, closed, columns, rows, foot, depth / 2)]
    if opened:
        upper = (height - foot) * opened
        parts.append(
            move(_boards(dice, width, upper, depth * dice.between(0.6, 1.0), dice.pick(1, 2)), y=foot + closed)
        )
    if foot:
        parts.append(dice.pick(legs(width * 0.9, foot, depth * 0.8, 0.05), box(width * 0.95, foot, depth * 0.85)))
    if dice.chance(0.2):
        side = dice.pick(-1, 1)
        door = box(width / columns, closed, 0.02, side * (width / columns) / 2, foot)
        door = turn(door, "y", -side * dice.between(40, 110))
        parts.append(move(door, -side * width / 2, 0.0, depth / 2 + 0.02))
    if dice.chance(0.2):
        parts.append(move(_clutter(dice, 0.1, 0.35), dice.between(-0.3, 0.3) * width, height))
    return join(parts)


def chair(dice: Dice) -> Mesh:
    """Seat, back and arms on four legs, a star with a column, runners or an upholstered body."""
    width, depth = dice.between(0.38, 0.58), dice.between(0.38, 0.55)
    height, thick = dice.between(0.38, 0.52), dice.between(0.02, 0.12)
    style = dice.pick("legs", "legs", "star", "runners", "stuffed")
    if style == "stuffed":
        return _seats(dice, dice.between(0.5, 0.75), 1)
    parts = [_seat(dice, width, height - thick, depth, thick)]
    if style == "legs":
        leg, round_ = dice.between(0.025, 0.055), dice.chance(0.5)
        splay = dice.between(0.0, 0.08) if round_ else 0.0
        parts.append(legs(width - leg, height - thick, depth - leg, leg, round_=round_, splay=splay))
    elif style == "star":
        parts.append(_star(dice, height - thick, dice.between(0.25, 0.33)))
    else:
        for x in (-width / 2, width / 2):
            path = [(x, height, -depth / 2), (x, 0.02, -depth / 2), (x, 0.02, depth / 2), (x, height, depth / 2)]
            parts.append(tube(path[dice.pick(0, 1) :], 0.015))
    if not dice.chance(0.08):
        parts.append(_back(dice, width * dice.between(0.8, 1.0), height, depth, dice.between(0.25, 0.65)))
    if dice.chance(0.35):
        rise = dice.between(0.15, 0.26)
        for x in (-width / 2, width / 2):
            parts += [box(0.05, 0.03, depth * 0.8, x, height + rise), box(0.03, rise, 0.04, x, height, depth * 0.25)]
    return join(parts)


def desk(dice: Dice) -> Mesh:
    """A work top on legs, panels or chests of drawers, with a modesty panel, a shelf on top or a second wing."""
    width, depth, height = dice.between(0.9, 1.8), dice.between(0.5, 0.85), dice.between(0.68, 0.8)
    thick = dice.between(0.02, 0.05)
    clear = height - thick
    parts = [box(width, thick, depth, y=clear)]
    supports = [dice.pick("drawers", "panel", "panel", "legs") for _ in range(2)]
    for side, support in zip((-1, 1), supports, strict=True):
        if support == "drawers":
            chest = dice.between(0.3, 0.48)
            low = dice.pick(0.0, 0.1, clear * 0.7)
            body = box(chest, clear - low, depth * 0.92, y=low)
            front = _fronts(dice, chest, clear - low, 1, dice.pick(2, 3, 4), low, depth * 0.46)
            parts.append(move(join([body, front]), side * (width - chest) / 2))
            support = "panel" if low > 0.2 else support
        if support == "panel":
            parts.append(box(0.03, clear, depth * 0.9, side * (width / 2 - 0.03)))
        if support == "legs":
            for z in (-depth / 2 + 0.04, depth / 2 - 0.04):
                parts.append(box(0.045, clear, 0.045, side * (width / 2 - 0.04), 0.0, z))
    if dice.chance(0.5):
        panel = dice.between(0.2, 1.0) * clear
        parts.append(box(width * 0.94, panel, 0.02, y=clear - panel, z=-depth * 0.4))
    if dice.chance(0.25):
        hutch = _boards(dice, width, dice.between(0.3, 0.7), dice.between(0.2, 0.3), dice.pick(0, 1))
        parts.append(move(hutch, y=height, z=-depth / 2 + 0.12))
    if dice.chance(0.2):
        wing, side = dice.between(0.4, 0.9), dice.pick(-1, 1)
        x, z = side * (width / 2 - 0.25), depth / 2 + wing / 2
        parts += [box(0.5, thick, wing, x, clear, z), box(0.5, clear, 0.03, x, 0.0, z + wing / 2 - 0.03)]
    if dice.chance(0.4):
        parts.append(move(_clutter(dice, 0.12, 0.4), dice.between(-0.3, 0.3) * width, height))
    return join(parts)


def shelf(dice: Dice) -> Mesh:
    """Boards between sides or posts, with or without a back, filled with books or boxes or empty."""
    width, height, depth = dice.pick(
        (dice.between(0.5, 1.2), dice.between(1.2, 2.1), dice.between(0.22, 0.4)),
        (dice.between(0.4, 1.4), dice.between(0.5, 1.1), dice.between(0.22, 0.45)),
        (dice.between(1.2, 2.2), dice.between(1.3, 2.2), dice.between(0.25, 0.5)),
    )
    count = max(1, round(height / dice.between(0.25, 0.5)) - 1)
    if dice.chance(0.3):
        levels = np.linspace(0.05, height - 0.03, count + 2)
        posts = legs(width - 0.04, height, depth - 0.04, 0.035, round_=dice.chance(0.5))
        parts = [posts, *(box(width, 0.02, depth, y=float(level)) for level in levels)]
        gap = (height - 0.08) / (count + 1)
    else:
        parts = [_boards(dice, width, height, depth, count)]
        for i in range(max(0, round(width / dice.between(0.4, 1.4)) - 1)):
            columns = round(width / 0.6) + 1
            parts.append(box(0.02, height, depth * 0.95, width * ((i + 1) / columns - 0.5)))
        gap = height / (count + 1)
    fill = dice.pick(0.0, 0.3, 0.7)
    for level in range(count + 1):
        if dice.chance(fill):
            long, tall = dice.between(0.2, 0.9) * width, dice.between(0.4, 0.85) * gap
            x = dice.between(-0.5, 0.5) * (width - long)
            parts.append(box(long, tall, depth * dice.between(0.5, 0.9), x, level * gap + 0.02))
    return join(parts)


def sofa(dice: Dice) -> Mesh:
    """One to four seats with back, arms and cushions; sometimes with a chaise longue or without arms."""
    count = dice.pick(1, 2, 2, 3, 3, 4)
    return _seats(dice, count * dice.between(0.5, 0.75), count)


def table(dice: Dice) -> Mesh:
    """A round or rectangular top, high or low, on four legs, a column, panels or trestles."""
    height = dice.pick(dice.between(0.68, 0.8), dice.between(0.68, 0.8), dice.between(0.3, 0.5))
    width = dice.between(0.5, 1.9)
    depth = min(width, dice.between(0.45, 1.1))
    thick = dice.between(0.02, 0.06)
    clear, square = height - thick, dice.pick(2.0, 12.0, 12.0, 12.0)
    depth = width if square == 2.0 and dice.chance(0.7) else depth
    half_x, half_z = width / 2, depth / 2
    rim = [(clear, half_x, half_z), (height, half_x, half_z)]
    parts = [loft([(clear, 0, 0), *rim, (height, 0, 0)], square)]
    style = dice.pick("legs", "legs", "column", "panels", "trestles")
    reach = 0.7 if square == 2.0 else dice.between(0.8, 0.95)
    if style == "legs":
        leg, round_ = dice.between(0.03, 0.09), dice.chance(0.4)
        splay = dice.between(-0.1, 0.05) if round_ else 0.0
        parts.append(legs(width * reach, clear, depth * reach, leg, round_=round_, splay=splay))
        if dice.chance(0.4):
            parts.append(
                case(width * reach, dice.between(0.06, 0.14), depth * reach, lid=False, floor=False, front=True)
            )
            parts[-1] = move(parts[-1], y=clear - 0.1)
    elif style == "column":
        foot, radius = dice.between(0.5, 0.8), dice.between(0.03, 0.12)
        parts.append(
            loft([(0, half_x * foot, half_z * foot), (0.03, half_x * foot, half_z * foot), (0.05, radius, radius)])
        )
        parts.append(loft([(0.05, radius, radius), (clear, radius * 0.8, radius * 0.8)]))
    elif style == "panels":
        for side in (-1, 1):
            parts.append(box(dice.between(0.03, 0.08), clear, depth * 0.8, side * half_x * reach))
    else:
        for x in (-half_x * 0.7, half_x * 0.7):
            for side in (-1, 1):
                parts.append(tube([(x, 0, side * half_z * 0.8), (x, clear, -side * half_z * 0.3)], 0.03))
    if dice.chance(0.25):
        parts.append(box(width * 0.7, 0.02, depth * 0.7, y=clear * dice.between(0.2, 0.5)))
    if dice.chance(0.3):
        parts.append(move(_clutter(dice, 0.08, 0.3), dice.between(-0.25, 0.25) * width, height))
    return join(parts)


# --- parts --------------------------------------------------------------------------------------------------------


def _back(dice: Dice, width: Real, height: Real, depth: Real, rise: Real) -> Mesh:
    """Back of a chair: a board, a cushion or bars, leaning backwards."""
    start, z = height + dice.pick(0.0, dice.between(0.02, 0.15)), -depth / 2 + 0.02
    style = dice.pick("board", "cushion", "bars")
    if style == "board":
        back = box(width, rise, dice.between(0.02, 0.05), 0.0, start, z)
    elif style == "cushion":
        back = cushion(width, rise, dice.between(0.06, 0.12), 0.0, start, z, roundness=4)
    else:
        count = dice.pick(2, 3, 4, 5)
        places = np.linspace(-width / 2, width / 2, count)
        back = join([box(0.025, rise, 0.025, float(x), start, z) for x in places])
        back = join([back, box(width, dice.between(0.04, 0.12), 0.03, 0.0, start + rise * 0.85, z)])
    stay = box(0.04, start - height + rise * 0.4, 0.03, 0.0, height - 0.02, z - 0.02)
    parts = [back, stay] if start > height else [back]
    return turn(join(parts), "x", -dice.between(0, 18), (0.0, height, z))


def _boards(dice: Dice, width: Real, height: Real, depth: Real, count: int) -> Mesh:
    """A case that is open in front, with ``count`` boards between floor and lid."""
    parts = [case(width, height, depth, back=dice.chance(0.75))]
    for level in np.linspace(0.0, height, count + 2)[1:-1]:
        parts.append(box(width, 0.02, depth * 0.97, y=float(level)))
    return join(parts)


def _clutter(dice: Dice, low: Real, high: Real) -> Mesh:
    """A small box or vase on top of furniture."""
    if dice.chance(0.5):
        return box(dice.between(low, high), dice.between(low, high), dice.between(0.05, 0.25))
    radius, height = dice.between(0.04, 0.12), dice.between(low, high)
    return loft([(0, radius, radius), (height, radius * dice.between(0.5, 1.2), radius), (height, 0, 0)])


def _fronts(dice: Dice, width: Real, height: Real, columns: int, rows: int, low: Real, front: Real) -> Mesh:
    """Doors or drawers in front of a body, each with a handle."""
    wide, tall = width / columns, height / rows
    thick, gap, handle = dice.between(0.01, 0.03), dice.between(0.005, 0.03), dice.pick("bar", "knob", "none")
    upright, reach = tall > wide, dice.between(0.15, 0.5)
    parts = []
    for column in range(columns):
        for row in range(rows):
            x, y = width * ((column + 0.5) / columns - 0.5), low + row * tall
            parts.append(box(wide - gap, tall - gap, thick, x, y + gap / 2, front + thick / 2))
            z = front + thick + 0.02
            place = x + (wide * 0.38 * (1 if column % 2 == 0 else -1) if upright else 0.0)
            middle = y + tall * (0.5 if upright else 0.7)
            if handle == "bar" and upright:
                parts.append(box(0.02, tall * reach * 0.6, 0.03, place, middle - tall * reach * 0.3, z))
            elif handle != "none":
                parts.append(box(wide * reach if handle == "bar" else 0.04, 0.03, 0.03, place, middle, z))
    return join(parts)


def _seat(dice: Dice, width: Real, y: Real, depth: Real, thick: Real) -> Mesh:
    """Seat of a chair: a board, upholstered, or round."""
    if dice.chance(0.5):
        return box(width, thick, depth, y=y)
    return cushion(width, thick, depth, y=y, roundness=6, squareness=dice.pick(2.0, 4.0, 8.0))


def _seats(dice: Dice, width: Real, count: int) -> Mesh:
    """An upholstered seat for ``count`` people."""
    depth, height = dice.between(0.65, 1.0), dice.between(0.34, 0.48)
    arm, back = dice.pick(0.0, *(dice.between(0.08, 0.28) for _ in range(4))), dice.between(0.12, 0.28)
    foot, soft = dice.pick(0.0, dice.between(0.04, 0.16)), dice.between(0.08, 0.18)
    total, tall = width + 2 * arm, height + dice.between(0.2, 0.55)
    parts = [box(width, height - soft - foot, depth, y=foot)]
    parts.append(turn(_upholstery(dice, total, tall - foot, back, foot), "x", -dice.between(0, 12), (0, foot, 0)))
    parts[-1] = move(parts[-1], z=-depth / 2)
    if arm:
        rise = height + dice.between(0.05, 0.25)
        for side in (-1, 1):
            rest = _upholstery(dice, arm, rise - foot, depth, foot)
            parts.append(move(rest, side * (width + arm) / 2))
    for i in range(count):
        x = width * ((i + 0.5) / count - 0.5)
        parts.append(
            cushion(width / count, soft, depth - back / 2, x, height - soft, back / 4, roundness=5, squareness=8)
        )
        if dice.chance(0.5):
            pad = cushion(width / count * 0.95, (tall - height) * dice.between(0.7, 1.1), 0.16, x, height, roundness=3)
            parts.append(move(turn(pad, "x", -10, (0, height, 0)), z=-depth / 2 + back / 2 + 0.1))
    if foot:
        parts.append(legs(total * 0.9, foot, depth * 0.85, 0.05))
    if count > 1 and dice.chance(0.25):
        side, reach = dice.pick(-1, 1), dice.between(0.4, 0.8)
        wide = width / count
        parts.append(box(wide, height - foot, reach, side * (width - wide) / 2, foot, (depth + reach) / 2))
    return join(parts)


def _star(dice: Dice, height: Real, reach: Real) -> Mesh:
    """Foot of a swivel chair: a column on a star of five rays or on a plate."""
    column = tube([(0, 0.06, 0), (0, height, 0)], dice.between(0.02, 0.04))
    if dice.chance(0.25):
        return join([column, loft([(0, reach, reach), (0.03, reach, reach), (0.06, 0, 0)])])
    angles = 2 * np.pi * np.arange(5) / 5 + dice.between(0, 1)
    feet = [(reach * float(np.cos(a)), 0.05, reach * float(np.sin(a))) for a in angles]
    rays = [tube([(0, 0.1, 0), foot], 0.022) for foot in feet]
    return join([column, *rays, *(cushion(0.05, 0.06, 0.05, x, 0.0, z, roundness=2, squareness=2) for x, _, z in feet)])


def _upholstery(dice: Dice, width: Real, height: Real, depth: Real, y: Real) -> Mesh:
    """Arm or back of a sofa: with hard or with soft edges."""
    if dice.chance(0.4):
        return box(width, height, depth, y=y)
    return cushion(width, height, depth, y=y, roundness=dice.between(4, 9), squareness=dice.between(4, 10))
