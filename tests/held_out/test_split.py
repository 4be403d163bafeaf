"""The split into training and validation is decided by a document's id alone."""

from tasks.held_out.split import split_of


def test_a_larger_fraction_holds_out_the_same_and_more():
    names = [str(number) for number in range(5000)]
    small, large = ({n for n, s in zip(names, split_of(names, f), strict=True) if s != "train"} for f in (0.02, 0.05))
    assert small < large
    assert 60 < len(small) < 145  # binomial(5000, 0.02): mean 100, standard deviation 10
    assert set(split_of(names, 0.0)) == {"train"}
