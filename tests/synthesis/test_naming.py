from voxicon.synthesis.anatomy.naming import standard_name


def test_words_of_datasets_become_words_of_the_vocabulary_and_others_stay() -> None:
    assert standard_name("postcava") == "inferior_vena_cava"
    assert standard_name("left kidney") == "kidney_left"
    assert standard_name("rib_left_5") == "rib_left_5"
