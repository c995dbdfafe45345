"""Names of things that vocabularies spell differently, and what is a kind of what.

Written by hand from general knowledge of English and of the usual label lists: COCO's 80 names,
Pascal VOC, Objects365, the boxable classes of Open Images, LVIS and ImageNet. No lexical database
was copied. Names are folded (see `specialists.synonyms.fold`) and singular; where COCO has a name
for a thing, that is its first one. Both tables are sorted; a test keeps them so.
"""

# The name used for a class, and its other names. A name stands for one class only.
NAMES: dict[str, str] = {
    "airplane": "aeroplane, plane, jet plane, airliner",
    "backpack": "rucksack, knapsack, back pack, bookbag",
    "baseball glove": "baseball mitt, catcher's mitt",
    "bathtub": "bath tub, tub",
    "bell pepper": "sweet pepper, capsicum",
    "bicycle": "bike, pushbike, push bike",
    "boat": "watercraft",
    "bookcase": "bookshelf, book shelf",
    "bus": "bus (vehicle)",
    "cabinet": "cupboard",
    "car": "automobile, auto, motorcar, car (automobile)",
    "cell phone": "cellphone, cellular telephone, cellular phone, mobile phone, mobile, "
    "smartphone, smart phone, handphone",
    "computer monitor": "monitor, computer screen, computer display",
    "couch": "sofa, settee, studio couch, sofa couch",
    "cow": "cattle, heifer",
    "cup": "drinking cup",
    "curtain": "drape, window curtain",
    "dining table": "diningtable, dinner table, dinning table, kitchen & dining room table, "
    "kitchen table",
    "donut": "doughnut",
    "drinking glass": "glass (drink container), tumbler",
    "eyeglasses": "spectacles, glasses, eye glasses",
    "fire extinguisher": "extinguisher",
    "fire hydrant": "hydrant, fireplug, fire plug",
    "flower pot": "flowerpot",
    "french fry": "fry, chips (food)",
    "frisbee": "flying disc, flying disk",
    "hair drier": "hair dryer, hairdryer, hairdrier, blow dryer, blow drier",
    "hamburger": "burger, beefburger",
    "handbag": "hand bag, purse, handbag/satchel, satchel",
    "hot dog": "hotdog",
    "keyboard": "computer keyboard, typewriter keyboard",
    "laptop": "laptop computer, notebook computer, portable computer",
    "microwave": "microwave oven",
    "motorcycle": "motorbike, motor bike, motor cycle",
    "mouse": "computer mouse, mouse (computer equipment)",
    "nightstand": "night stand, bedside table",
    "orange": "orange (fruit)",
    "person": "human, human being",
    "picture": "picture frame, picture/frame, photo frame",
    "pillow": "cushion",
    "potted plant": "pottedplant, houseplant, house plant, pot plant, indoor plant",
    "refrigerator": "fridge, icebox",
    "remote": "remote control, remote controller, tv remote",
    "rug": "carpet",
    "scissors": "pair of scissors, scissor",
    "sink": "washbasin, wash basin, basin (sink)",
    "skateboard": "skate board",
    "skis": "ski, pair of skis",
    "sneakers": "sneaker, trainers (shoes), running shoe, sports shoe, gym shoe, tennis shoe",
    "snowboard": "snow board",
    "soccer ball": "football ball, soccerball",
    "sports ball": "sportsball, ball",
    "stop sign": "stopsign",
    "streetlight": "street light, street lamp, streetlamp, lamppost",
    "stroller": "baby carriage, baby buggy, pushchair, pram, baby stroller",
    "sunglasses": "sun glasses, shades (eyewear)",
    "surfboard": "surf board",
    "teddy bear": "teddy, teddybear, stuffed bear",
    "tennis racket": "tennis racquet, tennisracket",
    "tie": "necktie, neck tie, tie (clothing)",
    "toilet": "lavatory",
    "toothbrush": "tooth brush",
    "traffic light": "trafficlight, traffic signal, stoplight, stop light",
    "train": "train (railroad vehicle), railway train",
    "trash can": "trashcan, garbage can, garbage bin, dustbin, waste container, trash bin, trash "
    "bin can, wastebin, rubbish bin, litter bin",
    "truck": "lorry",
    "tv": "television, tvmonitor, television set, tv monitor, tv set, telly, monitor/tv, "
    "moniter/tv",
    "umbrella": "parasol, brolly",
    "wine glass": "wineglass, wine glasses, goblet",
}

# What is a kind of what: every name on the right is a kind of the one on the left.
KINDS: dict[str, str] = {
    "adult": "lady, man, woman",
    "airplane": "biplane, fighter jet, jet, propeller plane, seaplane",
    "animal": "alligator, bat, bat (animal), bear, beaver, bee, bird, bull, butterfly, camel, "
    "cat, cheetah, crab, crocodile, deer, dog, dolphin, dragonfly, elephant, fish, fox, frog, "
    "giraffe, goat, hamster, hippopotamus, horse, insect, jaguar, kangaroo, koala, ladybug, "
    "leopard, lion, livestock, lizard, llama, lobster, monkey, mouse (animal), otter, ox, panda, "
    "penguin, pig, rabbit, raccoon, rat, rhinoceros, seal, sheep, snail, snake, spider, squirrel, "
    "tiger, turtle, walrus, whale, wolf, yak, zebra",
    "appliance": "blender, coffee maker, dishwasher, dryer, freezer, microwave, oven, "
    "refrigerator, stove, toaster, washing machine",
    "bag": "backpack, briefcase, handbag, plastic bag, shopping bag, shoulder bag, suitcase, "
    "tote bag",
    "bear": "black bear, brown bear, grizzly, polar bear",
    "bed": "bunk bed, crib, infant bed",
    "bicycle": "mountain bike, tandem bicycle, tricycle",
    "bird": "chicken, crow, duck, eagle, falcon, flamingo, goose, gull, hawk, hen, heron, "
    "ostrich, owl, parrot, peacock, pelican, penguin, pigeon, rooster, seagull, sparrow, swan, "
    "turkey, wild bird, woodpecker",
    "boat": "barge, canoe, catamaran, dinghy, ferry, fishing boat, gondola, kayak, motorboat, "
    "raft, rowboat, sailboat, ship, speedboat, yacht",
    "boy": "schoolboy",
    "bus": "double decker, minibus, school bus, tour bus",
    "car": "cab, convertible, coupe, hatchback, jeep, limousine, minivan, police car, race car, "
    "racecar, sedan, sports car, station wagon, suv, taxi",
    "cat": "kitten, kitty, siamese cat, tabby",
    "chair": "armchair, beach chair, deck chair, folding chair, high chair, lawn chair, office "
    "chair, recliner, rocking chair, stool, wheelchair",
    "child": "baby, boy, girl, infant, kid, toddler, youngster",
    "clock": "alarm clock, wall clock, wristwatch",
    "clothing": "apron, belt, blouse, boot, cap, coat, costume, dress, glove, hat, helmet, "
    "hoodie, jacket, jeans, jersey, outfit, pants, robe, sandals, scarf, shirt, shoe, shorts, "
    "skirt, sock, suit, sweater, sweatshirt, swimsuit, t shirt, tie, top, trousers, tuxedo, "
    "uniform, vest, wetsuit",
    "computer": "desktop, laptop, tablet computer",
    "computer monitor": "flat screen monitor",
    "couch": "futon, loveseat, sectional, sofa bed",
    "cow": "bull, calf, ox",
    "cup": "coffee cup, mug, paper cup, plastic cup, teacup",
    "deer": "antelope, elk, moose, reindeer",
    "dining table": "picnic table",
    "dog": "beagle, border collie, boxer (dog), bulldog, chihuahua, collie, corgi, dachshund, "
    "dalmatian, doggy, german shepherd, golden retriever, greyhound, hound, husky, labrador, "
    "labrador retriever, pooch, poodle, pug, pup, puppy, retriever, rottweiler, sheepdog, "
    "spaniel, terrier",
    "drink": "beer, beverage, cocktail, coffee, juice, milk, tea, wine",
    "fish": "goldfish, salmon, shark, trout, tuna",
    "flower": "daisy, lily, rose, sunflower, tulip",
    "food": "bread, burrito, cake, candy, cheese, cookie, donut, egg, french fry, fruit, "
    "hamburger, hot dog, ice cream, meat, muffin, noodles, pancake, pasta, pastry, pizza, "
    "popcorn, pretzel, rice, salad, sandwich, soup, sushi, taco, vegetable, waffle",
    "fruit": "apple, banana, cherry, coconut, grape, grapefruit, kiwi, lemon, lime, mango, "
    "melon, orange, papaya, peach, pear, pineapple, plum, pomegranate, strawberry, watermelon",
    "furniture": "bed, bench, bookcase, cabinet, chair, chest of drawers, couch, desk, dresser, "
    "nightstand, stool, table, wardrobe",
    "girl": "schoolgirl",
    "hat": "baseball cap, beanie, cap, cowboy hat, fedora, sombrero, sun hat",
    "horse": "bronco, colt, foal, mare, pony, stallion",
    "insect": "ant, bee, beetle, butterfly, dragonfly, fly, ladybug, moth, wasp",
    "knife": "butter knife, kitchen knife",
    "lady": "grandma, grandmother",
    "lamp": "desk lamp, floor lamp, table lamp",
    "man": "bridegroom, brother, businessman, cameraman, cowboy, dad, father, fireman, "
    "fisherman, gentleman, grandfather, grandpa, groom, guy, husband, male, policeman, salesman, "
    "son, uncle, waiter",
    "motorcycle": "dirt bike, moped, motor scooter, scooter (motor), vespa",
    "musical instrument": "accordion, banjo, cello, clarinet, drum, flute, guitar, harmonica, "
    "harp, piano, saxophone, trombone, trumpet, tuba, ukulele, violin",
    "oven": "gas stove, stove",
    "person": "acrobat, actor, actress, adult, architect, artist, asian, athlete, attendant, "
    "ballerina, barber, bartender, baseball player, basketball player, batsman, batter, "
    "bicyclist, biker, boxer, builder, butcher, carpenter, catcher, character, cheerleader, chef, "
    "child, clown, construction worker, contestant, cook, cop, cyclist, dancer, dentist, diver, "
    "dj, doctor, driver, drummer, elder, employee, engineer, entertainer, fan, farmer, female, "
    "fielder, firefighter, football player, friend, goalie, goalkeeper, golfer, guard, guest, "
    "guitarist, gymnast, hiker, hockey player, hunter, individual, instructor, jockey, jogger, "
    "juggler, kayaker, lifeguard, magician, male, mechanic, model, motorcyclist, musician, nurse, "
    "officer, opponent, painter, parent, participant, passenger, passerby, patient, patron, "
    "pedestrian, performer, photographer, pianist, pilot, pitcher, player, police officer, "
    "protester, racer, referee, rider, rock climber, runner, sailor, shopper, sibling, singer, "
    "skateboarder, skater, skier, snowboarder, soccer player, soldier, someone, speaker, "
    "spectator, stranger, student, surfer, swimmer, teacher, teen, teenager, tennis player, "
    "tourist, traveler, twin, umpire, vendor, violinist, volunteer, waiter, worker, wrestler, "
    "youth",
    "phone": "cell phone, telephone",
    "pillow": "throw pillow",
    "plant": "bush, cactus, fern, flower, potted plant, shrub, tree",
    "racket": "badminton racket, tennis racket",
    "sandwich": "blt, hamburger, submarine sandwich",
    "sheep": "ewe, lamb, ram",
    "shoe": "boot, high heel, sandal, slipper, sneakers",
    "sign": "billboard, road sign, stop sign, street sign, traffic sign",
    "sports ball": "baseball, basketball, beach ball, bowling ball, cricket ball, football, golf "
    "ball, rugby ball, soccer ball, tennis ball, volleyball",
    "table": "coffee table, desk, dining table, end table, nightstand, picnic table",
    "toy": "doll, kite, teddy bear",
    "train": "bullet train, locomotive, steam train, subway train, tram",
    "tree": "christmas tree, palm tree, pine tree",
    "truck": "dump truck, fire engine, fire truck, garbage truck, pickup, pickup truck, semi, "
    "semi truck, tow truck, trailer truck",
    "tv": "flat screen, flat screen tv, flatscreen",
    "vegetable": "bell pepper, broccoli, cabbage, carrot, cauliflower, corn, cucumber, eggplant, "
    "lettuce, mushroom, onion, potato, pumpkin, radish, tomato, zucchini",
    "vehicle": "airplane, ambulance, bicycle, boat, bus, car, cart, helicopter, motorcycle, "
    "train, truck, van",
    "woman": "aunt, ballerina, bride, businesswoman, daughter, female, grandmother, mom, mother, "
    "mum, policewoman, sister, waitress, wife",
}
