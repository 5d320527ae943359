import pytest

from dataset_tools.pull.members import Account, Limits, Member, check_members, is_reserved

GOOD = (
    Member("./", "folder"),
    Member("a", "folder"),
    Member("a/b c.png", "file", 3),
    Member("a/..hidden", "file", 3),
    Member("a/x...y", "file"),
    Member("a/link", "link", 0, "../other/file"),
    Member("a/folder link", "link", 0, "."),
    Member("a", "folder"),
)


def test_good_members() -> None:
    check_members(GOOD, "x.zip")


@pytest.mark.parametrize(
    ("member", "reason"),
    [
        (Member("../x", "file"), "leads outwards"),
        (Member("a/../../x", "file"), "leads outwards"),
        (Member("a/..", "folder"), "leads outwards"),
        (Member("..\\x", "file"), "leads outwards"),
        (Member("/etc/passwd", "file"), "absolute path"),
        (Member("\\x", "file"), "absolute path"),
        (Member("C:/x", "file"), "absolute path"),
        (Member("c:x", "file"), "absolute path"),
        (Member("", "file"), "empty"),
        (Member("a\0b", "file"), "NUL"),
        (Member("n", "link", 0, "/etc"), "absolute path"),
        (Member("n", "link", 0, ""), "absolute path"),
        (Member("n", "link", 0, ".."), "leads outwards"),
        (Member("q/r/n", "link", 0, "../../../x"), "leads outwards"),
        (Member("q/n", "link", 0, "inner/../../.."), "goes down and up"),
        (Member("fifo", "other"), "no file, folder or link"),
        (Member("a/b c.png", "file"), "stands twice"),
        (Member("a//b c.png", "file"), "stands twice"),
        (Member("a", "file"), "stands twice"),
        (Member("a/link/x", "file"), "lies behind 'a/link'"),
        (Member("a/b c.png/x", "file"), "lies behind 'a/b c.png'"),
    ],
)
def test_bad_members(member: Member, reason: str) -> None:
    for members in ((*GOOD, member), (member, *GOOD)):
        with pytest.raises(ValueError, match=r"x\.zip is refused, nothing was written") as caught:
            check_members(members, "x.zip")
        assert reason in str(caught.value)


def test_a_link_to_a_link_cannot_climb() -> None:
    """`d/e/b` is the root itself, so `d/e/b/../x` would lie above it although the text stays inside."""
    with pytest.raises(ValueError, match="goes down and up"):
        check_members([Member("d/e/b", "link", 0, "../.."), Member("d/e/a", "link", 0, "b/../x")], "x.tar")


def test_problems_are_counted() -> None:
    with pytest.raises(ValueError, match=r"\.\.\. and 5 more"):
        check_members([Member(f"../{number}", "file") for number in range(15)], "x")


def test_reserved_names() -> None:
    assert [is_reserved(name) for name in ("./made_by.json", ".download/x", "a/made_by.json", "made_by.json.png")] == [
        True,
        True,
        False,
        False,
    ]


def test_limits() -> None:
    account = Account("x", 10 * 2**20, Limits(size_bytes=2**40, ratio=10, files=3))
    account.add(100 * 2**20)
    with pytest.raises(ValueError, match=r"more than 100 MiB or 3 files.*--max-ratio"):
        account.add(1)
    small = Account("x", 10, Limits(ratio=10, files=3))
    for _ in range(3):
        small.add(2**20)
    with pytest.raises(ValueError, match="3 files"):
        small.add(0)
